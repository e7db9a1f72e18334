# shellcheck shell=bash
# Which processes belong to the cluster in DIR, and how to end them and no others.

# Prints the pids of all processes whose environment selects this cluster: its daemons and jobs,
# and also the shells and tools of whoever uses it.
processes_selecting_us() {
  local file
  { grep -lzxF -- "SLURM_CONF=$DIR/slurm.conf" /proc/[0-9]*/environ 2>/dev/null || true; } |
    while read -r file; do basename "${file%/environ}"; done
}

# Whether pid $1, which selects this cluster, is one of its daemons or something they started.
# Only slurmd sets SLURMD_NODENAME; a shell inside salloc does not have it.
is_part_of_cluster() {
  local name=""
  read -r name 2>/dev/null <"/proc/$1/comm" || return 1
  case $name in
    munged | slurmctld | slurmscriptd | slurmd | slurmstepd | slurmdbd | mariadbd | mysqld) return 0 ;;
  esac
  (($1 != $$)) && grep -qz '^SLURMD_NODENAME=' "/proc/$1/environ" 2>/dev/null
}

cluster_processes() {
  local pid
  for pid in $(processes_selecting_us); do
    if is_part_of_cluster "$pid"; then echo "$pid"; fi
  done
}

# daemon_alive NAME: whether run/NAME.pid names a live process of this cluster, not a reused pid.
daemon_alive() {
  local pid=""
  read -r pid 2>/dev/null <"$DIR/run/$1.pid" || [[ -n $pid ]] || return 1
  grep -qzxF -- "SLURM_CONF=$DIR/slurm.conf" "/proc/$pid/environ" 2>/dev/null
}

# SIGKILL at once: the state is removed next, so there is nothing to save, and a daemon that shuts
# down in order takes seconds. Repeated, for a slurmd may have started a step meanwhile.
end_processes() {
  local round pids
  for ((round = 0; round < 100; round++)); do
    mapfile -t pids < <(cluster_processes)
    ((${#pids[@]})) || return 0
    kill -KILL "${pids[@]}" 2>/dev/null || true
    sleep 0.1
  done
  die "$EXIT_FAILED" "these processes of $DIR do not end: ${pids[*]}"
}
