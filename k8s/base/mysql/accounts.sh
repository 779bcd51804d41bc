#!/bin/bash
# Runs once, when the server's folder is empty: one account and one database a service, and one for Grafana that may only look
# at the server's own figures. Services come over TLS. The image sources this file and brings docker_process_sql.
# shellcheck disable=SC2154 # the passwords come from the environment
docker_process_sql <<SQL
CREATE DATABASE auth CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE DATABASE feed CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE USER auth@'%' IDENTIFIED BY '${MYSQL_AUTH_PASSWORD}';
CREATE USER feed@'%' IDENTIFIED BY '${MYSQL_FEED_PASSWORD}';
CREATE USER grafana@'%' IDENTIFIED BY '${MYSQL_GRAFANA_PASSWORD}' WITH MAX_USER_CONNECTIONS 5;
GRANT ALL ON auth.* TO auth@'%';
GRANT ALL ON feed.* TO feed@'%';
GRANT SELECT ON performance_schema.* TO grafana@'%';
SQL
