# shellcheck shell=bash
# A cluster's folder: its shape, its ports and the files its daemons read.
# Knows nothing of processes.
# shellcheck disable=SC2153  # DIR, NODES, GPUS and ACCOUNTING come from the options

wanted_shape() { echo "nodes=$NODES gpus=$GPUS accounting=$ACCOUNTING"; }
saved_shape() { cat -- "$DIR/shape"; }

describe_shape() {
  local nodes gpus accounting
  read -r nodes gpus accounting <<<"$1"
  echo "nodes: ${nodes#*=}, GPUs per node: ${gpus#*=}, accounting: ${accounting#*=}"
}

create_folder() {
  [[ ! -e $DIR || -e $DIR/shape || (-d $DIR && -z $(ls -A -- "$DIR")) ]] ||
    die "$EXIT_USAGE" "$DIR exists and was not made by devcluster; choose another --dir"
  mkdir -p -- "$DIR"
  chmod 0700 -- "$DIR"
}

# Two `up` or `down` in one folder wait for each other. The lock is on the folder itself, for a
# lock file inside would vanish at `down`; who waited through a `down` holds a lock on nothing.
lock_folder() {
  exec 9<"$DIR"
  flock -w 120 9 || die "$EXIT_FAILED" "another devcluster has been busy in $DIR for 120 s"
  [[ $DIR -ef /dev/fd/9 ]] || die "$EXIT_FAILED" "$DIR was removed meanwhile; run it again"
}

# The folder for sockets and spools. A Unix socket's path holds 107 characters, and slurmstepd
# makes one at <spool>/<node>/<node>_<job>.<step>, so a deep DIR needs a short one elsewhere.
socket_folder() {
  if [[ -e $DIR/short-folder ]]; then cat -- "$DIR/short-folder"; else echo "$DIR"; fi
}

# Empties DIR but leaves the folder itself, on which the lock is.
remove_state() {
  [[ ! -e $DIR/short-folder ]] || rm -rf -- "$(socket_folder)"
  find "$DIR" -mindepth 1 -delete
}

create_state() {
  wanted_shape >"$DIR/shape"
  # 40: /spool/n64/n64_<7 digits>.<10 digits> and a little over.
  ((${#DIR} + 40 <= 107)) || mktemp -d /tmp/devcluster.XXXXXX >"$DIR/short-folder"
  local sockets gpu
  sockets=$(socket_folder)
  mkdir -- "$DIR"/{log,run,state,gpu,tmp} "$sockets"/{socket,spool}
  # Slurm wants a device file for each GPU. It also takes an ordinary file, but then jobs get no
  # CUDA_VISIBLE_DEVICES; it follows links, and which character device it finds does not matter.
  for ((gpu = 0; gpu < GPUS; gpu++)); do ln -s /dev/null "$DIR/gpu/gpu$gpu"; done
  dd if=/dev/urandom of="$DIR/munge.key" bs=128 count=1 status=none
  write_config "$sockets"
}

# Prints the first of $1 consecutive TCP ports that nobody uses, below the range from which the
# kernel hands out ports of its own accord.
free_ports() {
  local used try port first
  used=" $(awk 'FNR > 1 {sub(/.*:/, "", $2); print $2}' /proc/net/tcp* | paste -sd' ') "
  for ((try = 0; try < 200; try++)); do
    first=$((12000 + RANDOM % 20000))
    for ((port = first; port < first + $1; port++)); do
      [[ $used != *" $(printf %04X "$port") "* ]] || continue 2
    done
    echo "$first"
    return
  done
  die "$EXIT_FAILED" "found no $1 free TCP ports in a row"
}

# write_config SOCKET_FOLDER
write_config() {
  local first_port
  first_port=$(free_ports $((NODES + 2)))
  {
    common_settings "$1" "$first_port"
    scheduling_settings
    accounting_settings "$1" $((first_port + 1))
    node_settings $((first_port + 2))
  } >"$DIR/slurm.conf"
  : >"$DIR/gres.conf"
  ((GPUS == 0)) || echo "Name=gpu Type=h100 File=$DIR/gpu/gpu[0-$((GPUS - 1))]" >"$DIR/gres.conf"
  [[ $ACCOUNTING == no ]] || write_slurmdbd_conf "$1" $((first_port + 1))
}

common_settings() {
  local sockets=$1 port=$2
  # linuxproc and the default task plugin need no cgroups, hence neither root nor systemd.
  # A *Type or *Plugin that is "none" is left out: Slurm 23.11 dropped the plugins of that name.
  # cred_expire also is how long a requeued job is held back; two minutes by default, five seconds at least.
  cat <<CONF
ClusterName=devcluster
SlurmctldHost=$(short_hostname)(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$sockets/socket/munge,cred_expire=5
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$sockets/spool/%n
SlurmctldPidFile=$DIR/run/slurmctld.pid
SlurmdPidFile=$DIR/run/slurmd-%n.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
SlurmdParameters=config_overrides
SlurmdTimeout=15
ReturnToService=2
InactiveLimit=30
KillWait=5
CONF
}

scheduling_settings() {
  # CR_Core leaves memory out, so that jobs that do not ask for any can share a node.
  cat <<CONF
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=10000,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
CONF
}

# accounting_settings SOCKET_FOLDER SLURMDBD_PORT
accounting_settings() {
  [[ $ACCOUNTING == yes ]] || return 0
  # Towards slurmdbd, Slurm takes munged's socket from AccountingStoragePass, not from AuthInfo.
  cat <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$2
AccountingStoragePass=$1/socket/munge
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=5
CONF
}

# node_settings FIRST_SLURMD_PORT
node_settings() {
  local nodes="n[1-$NODES]" ports="[$1-$(($1 + NODES - 1))]" gres=""
  if ((NODES == 1)); then nodes=n1 ports=$1; fi
  if ((GPUS > 0)); then
    echo "GresTypes=gpu"
    gres="Gres=gpu:h100:$GPUS"
  fi
  cat <<CONF
NodeName=$nodes NodeHostname=$(short_hostname) NodeAddr=127.0.0.1 Port=$ports \
CPUs=64 Sockets=2 CoresPerSocket=32 ThreadsPerCore=1 RealMemory=20000 $gres State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
CONF
}

# write_slurmdbd_conf SOCKET_FOLDER PORT
write_slurmdbd_conf() {
  # slurmdbd refuses a file that others may read.
  (umask 077 && cat >"$DIR/slurmdbd.conf") <<CONF
DbdHost=$(short_hostname)
DbdAddr=127.0.0.1
DbdPort=$2
SlurmUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$1/socket/munge
PidFile=$DIR/run/slurmdbd.pid
LogFile=$DIR/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct
CONF
}

# Slurm compares the name before the first dot.
short_hostname() {
  local name
  name=$(uname -n)
  echo "${name%%.*}"
}
