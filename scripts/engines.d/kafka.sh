# Apache Kafka: one node in KRaft mode, from Kafka's jars. Sourced by scripts/engines.
# shellcheck shell=bash

KAFKA_VERSION=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$ENGINES_D/kafka-pom.xml")
KAFKA_HOME=$CACHE/tools/kafka-$KAFKA_VERSION
KAFKA_TOOLS_HOME=$CACHE/tools/kafka-tools-$KAFKA_VERSION
KAFKA_FORMATTED=$CACHE/tools/kafka-$KAFKA_VERSION-formatted

kafka_url() { say "kafka:127.0.0.1:$1"; }

kafka_prepare() {
    has java || fail "Kafka needs a Java 17 runtime: run scripts/setup test"
    [ -e "$KAFKA_HOME/.filled" ] && [ -e "$KAFKA_TOOLS_HOME/.filled" ] && return
    has mvn || fail "Kafka's jars are fetched with Maven: run scripts/setup test"
    [ -e "$KAFKA_HOME/.filled" ] || told "fetch the jars of Kafka $KAFKA_VERSION" once "$KAFKA_HOME" \
        mvn -B -ntp -f "$ENGINES_D/kafka-pom.xml" dependency:copy-dependencies -DoutputDirectory="$KAFKA_HOME/jars"
    [ -e "$KAFKA_TOOLS_HOME/.filled" ] || told "fetch the tools of Kafka $KAFKA_VERSION" once "$KAFKA_TOOLS_HOME" kafka_fetch_tools
}

# The broker does without.
kafka_fetch_tools() {
    mvn -B -ntp org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy "-Dartifact=org.apache.kafka:kafka-tools:$KAFKA_VERSION" \
        -DoutputDirectory="$KAFKA_TOOLS_HOME/jars"
}

kafka_java() { java -Dlog4j2.configurationFile="$ENGINES_D/kafka-log4j2.properties" -cp "$KAFKA_HOME/jars/*" "$@"; }

# Listeners in addition to the plain one: SASL over TLS, TLS with a client certificate, and SASL without TLS.
# shellcheck disable=SC2034 # for assign_port
KAFKA_MORE_PORTS="secure mutual sasl"

kafka_variables() {
    # For a test that runs Kafka's tools as an operator does.
    [ "$(noted kafka by)" != native ] || [ ! -e "$KAFKA_TOOLS_HOME/.filled" ] ||
        say "KAFKA_TOOLS=$KAFKA_HOME/jars/*:$KAFKA_TOOLS_HOME/jars/*"
    # A broker started by an older version of this script has none.
    [ -n "$(noted kafka secure-port)" ] || return 0
    say "KAFKA_SECURE=kafka:127.0.0.1:$(noted kafka secure-port)"
    say "KAFKA_MUTUAL=kafka:127.0.0.1:$(noted kafka mutual-port)"
    [ -z "$(noted kafka sasl-port)" ] || say "KAFKA_SASL=kafka:127.0.0.1:$(noted kafka sasl-port)"
}

# Formats a log folder with the settings of the node in FOLDER. The cluster id is any 16 bytes in base64.
kafka_format() {
    sed "s|^log.dirs=.*|log.dirs=$KAFKA_FORMATTED/data|" "$1/server.properties" >"$KAFKA_FORMATTED/server.properties"
    kafka_java kafka.tools.StorageTool format --cluster-id sosohappy-engines-000A --config "$KAFKA_FORMATTED/server.properties"
}

kafka_launch() {
    local folder=$1 port=$2 controller more
    controller=$(free_port)
    more="SECURE://127.0.0.1:$(noted kafka secure-port),MUTUAL://127.0.0.1:$(noted kafka mutual-port),SASL://127.0.0.1:$(noted kafka sasl-port)"
    {
        cat "$ENGINES_D/kafka.properties"
        say "log.dirs=$folder/data"
        say "listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller,$more"
        say "advertised.listeners=PLAINTEXT://127.0.0.1:$port,$more"
        say "controller.quorum.voters=1@127.0.0.1:$controller"
        say "ssl.keystore.location=$TLS_DIR/server.pem"
        say "ssl.truststore.location=$TLS_DIR/ca.pem"
        say "listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required" \
            "user_plain=\"$(cat "$TLS_DIR/password")\";"
    } >"$folder/server.properties"
    # Each data folder is a cluster of its own, and begins as a copy of the first one: to format it starts a JVM.
    if [ ! -e "$folder/data/meta.properties" ]; then
        [ -e "$KAFKA_FORMATTED/.filled" ] || told "format Kafka's log folder, once" once "$KAFKA_FORMATTED" kafka_format "$folder"
        mkdir -p "$folder/data"
        cp "$KAFKA_FORMATTED"/data/* "$folder/data/"
    fi
    # Java loads Kafka's 6,000 classes in half the time from an archive, which the first graceful stop writes.
    local archive=$KAFKA_HOME/classes.jsa classes=-XX:ArchiveClassesAtExit
    [ -e "$archive" ] && classes=-XX:SharedArchiveFile
    launched "$folder" java -Xms256m -Xmx512m "$classes=$archive" -Xlog:cds=off -Xlog:cds+dynamic=off -Xshare:auto \
        -Dlog4j2.configurationFile="$ENGINES_D/kafka-log4j2.properties" -Dsosohappy.data="$folder/data" \
        -cp "$KAFKA_HOME/jars/*" kafka.Kafka "$folder/server.properties"
}

kafka_answers() { python3 "$ENGINES_D/kafka_answers.py" 127.0.0.1 "$1"; }
