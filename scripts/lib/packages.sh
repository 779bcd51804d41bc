# Files of Debian's packages for images, without an installation. Sourced after common.sh.
# shellcheck shell=bash

# packed FOLDER LAYER: writes the folder's files as a layer, without what only people read.
packed() {
    tar --sort=name --numeric-owner --owner=0 --group=0 --mtime=@0 --exclude=./usr/share/{doc,info,lintian,locale,man} -C "$1" -cf "$2" .
}

# unpacked FOLDER PACKAGE…: the files of Debian's packages and of all that they depend on. Nothing is installed, and no script runs.
unpacked() {
    local folder=$1 package name options
    shift
    mkdir -p "$folder"/packages/partial "$folder"/root/{etc,tmp,usr/bin,usr/lib,usr/lib64,usr/sbin}
    chmod 1777 "$folder/root/tmp"
    for name in bin lib lib64 sbin; do ln -s "usr/$name" "$folder/root/$name"; done
    # As on a machine without any package.
    : >"$folder/status"
    options=(-qq -y --no-install-recommends --download-only -o "Dir::State::Status=$folder/status" -o "Dir::Cache::Archives=$folder/packages"
        -o Debug::NoLocking=true -o APT::Sandbox::User=root)
    apt-get "${options[@]}" install "$@" || { apt-get update && apt-get "${options[@]}" install "$@"; } || return
    for package in "$folder"/packages/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$folder/root" || return
    done
    printf 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$folder/root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$folder/root/etc/group"
}

# bundled_certificates ROOT: makes the bundle of certificate authorities, as the installation of ca-certificates would.
bundled_certificates() {
    mkdir -p "$1/etc/ssl/certs" && cat "$1"/usr/share/ca-certificates/*/*.crt >"$1/etc/ssl/certs/ca-certificates.crt"
}
