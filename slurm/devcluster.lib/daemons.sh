# shellcheck shell=bash
# Starting the daemons of the cluster in DIR, and waiting until they serve.

readonly READY_TIMEOUT_S=30

core_daemons() {
  echo munged
  [[ $(saved_shape) != *accounting=yes ]] || echo mariadbd slurmdbd
  echo slurmctld
}

node_daemons() {
  local shape i
  shape=$(saved_shape)
  shape=${shape#nodes=}
  for ((i = 1; i <= ${shape%% *}; i++)); do echo "slurmd-n$i"; done
}

core_is_alive() {
  local name
  [[ -e $DIR/shape ]] || return 1
  for name in $(core_daemons); do daemon_alive "$name" || return 1; done
}

# Runs a daemon in an environment of its own: what the caller has exported must reach neither the
# daemons nor, through them, a job. Its output goes to a file, or a caller that reads ours would
# wait for the daemon; descriptor 9 is the folder's lock.
daemon() {
  local name=$1
  shift
  env -i -C / PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin LANG=C.UTF-8 \
    HOME="${HOME:-/}" USER="$(id -un)" LOGNAME="$(id -un)" \
    MYSQL_UNIX_PORT="$(socket_folder)/socket/mariadb" SLURM_CONF="$DIR/slurm.conf" \
    "$@" </dev/null >>"$DIR/log/$name.out" 2>&1 9<&-
}

# A Slurm command against this cluster; bounded, as they retry for minutes.
client() { SLURM_CONF=$DIR/slurm.conf timeout 10 "$@" 9<&-; }

# wait_until SECONDS COMMAND…
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

# failed NAME WHAT: reports with the end of the daemon's logs
failed() {
  local log
  for log in "$DIR/log/$1.out" "$DIR/log/$1.log"; do
    if [[ -s $log ]]; then
      printf -- '--- last lines of %s\n' "$log" >&2
      tail -n 20 -- "$log" >&2
    fi
  done
  die "$EXIT_FAILED" "$2"
}

start_munged() {
  # --force: munged wants a socket folder open to all; this one is for one user, on purpose.
  daemon munged munged --force --key-file="$DIR/munge.key" --socket="$(socket_folder)/socket/munge" \
    --pid-file="$DIR/run/munged.pid" --log-file="$DIR/log/munged.log" \
    --seed-file="$DIR/state/munged.seed" || failed munged "munged did not start"
}

database_answers() { [[ -S $(socket_folder)/socket/mariadb ]]; }

start_mariadbd() {
  # Nobody but this user reaches the socket, so the database needs no password. The sizes are
  # small and nothing is flushed, as the data does not outlive the cluster.
  # tmpdir: at its start a MariaDB deletes the temporary tables of all others that share it.
  local options=(--no-defaults --datadir="$DIR/mariadb" --tmpdir="$DIR/tmp" --user="$(id -un)"
    --innodb-log-file-size=16M --innodb-buffer-pool-size=64M --innodb-use-native-aio=0)
  daemon mariadbd mariadb-install-db "${options[@]}" --auth-root-authentication-method=normal \
    --skip-test-db --skip-name-resolve || failed mariadbd "MariaDB could not create its data folder"
  # The only daemon here that does not go into the background by itself.
  daemon mariadbd setsid --fork mariadbd "${options[@]}" --skip-networking \
    --socket="$(socket_folder)/socket/mariadb" --pid-file="$DIR/run/mariadbd.pid" \
    --innodb-flush-log-at-trx-commit=0 --innodb-lock-wait-timeout=900
  wait_until "$READY_TIMEOUT_S" database_answers || failed mariadbd "MariaDB did not start"
}

add_cluster() { client sacctmgr -i -Q add cluster devcluster >>"$DIR/log/slurmdbd.out" 2>&1; }

start_slurmdbd() {
  # It has no option for its configuration: it looks beside the file that SLURM_CONF names.
  daemon slurmdbd slurmdbd || failed slurmdbd "slurmdbd did not start"
  wait_until "$READY_TIMEOUT_S" add_cluster || failed slurmdbd "slurmdbd does not answer"
}

start_slurmctld() {
  daemon slurmctld slurmctld -f "$DIR/slurm.conf" || failed slurmctld "slurmctld did not start"
}

# start_slurmd slurmd-nK
start_slurmd() {
  daemon "$1" slurmd -f "$DIR/slurm.conf" -N "${1#slurmd-}" || failed "$1" "$1 did not start"
}

# Whether every slurmd runs and Slurm lists its node as usable. Both: slurmctld notices a lost
# slurmd late, and slurmd writes its pid file once it listens.
nodes_are_usable() {
  local name states
  for name in $(node_daemons); do daemon_alive "$name" || return 1; done
  states=$(client sinfo -h -N -p low -o %t 2>/dev/null) || return 1
  (($(wc -l <<<"$states") == $(node_daemons | wc -l))) &&
    ! grep -qvxE 'idle|mix|alloc|comp|resv|plnd|drain|drng' <<<"$states"
}

wait_for_nodes() {
  wait_until "$READY_TIMEOUT_S" nodes_are_usable && return
  client sinfo -N >&2 || true
  local name
  for name in $(node_daemons); do
    daemon_alive "$name" || failed "$name" "$name died while starting"
  done
  failed slurmctld "the nodes are not ready after $READY_TIMEOUT_S s"
}

# What to do when `up` ends before it succeeded. The logs stay, for whoever wants to know why.
abandon_start() {
  end_processes
  say "the start failed; everything it started is ended, the logs are in $DIR/log" >&2
}

start_cluster() {
  local name
  umask 077
  trap abandon_start EXIT
  trap 'exit 130' INT TERM HUP
  create_state
  for name in $(core_daemons); do "start_$name"; done
  for name in $(node_daemons); do start_slurmd "$name"; done
  wait_for_nodes
  trap - EXIT INT TERM HUP
  say "up in $DIR: $(describe_shape "$(saved_shape)")"
}

revive_nodes() {
  local name revived=()
  umask 077
  for name in $(node_daemons); do
    if ! daemon_alive "$name"; then
      start_slurmd "$name"
      revived+=("${name#slurmd-}")
    fi
  done
  wait_for_nodes
  if ((${#revived[@]})); then
    say "restarted in $DIR: ${revived[*]}"
  else
    say "already up in $DIR: $(describe_shape "$(saved_shape)")"
  fi
}
