# shellcheck shell=bash
# Which Debian packages a cluster needs, and how to install them without starting their services.

readonly PACKAGES=(slurm-wlm munge slurmdbd mariadb-server)
readonly SERVICE_POLICY=/usr/sbin/policy-rc.d

# Prints those of the needed packages whose programs are missing; $1 is yes for accounting too.
missing_packages() {
  local entry
  local programs=(munged:munge slurmctld:slurm-wlm slurmd:slurm-wlm srun:slurm-wlm)
  if [[ $1 == yes ]]; then
    programs+=(slurmdbd:slurmdbd mariadbd:mariadb-server mariadb-install-db:mariadb-server)
  fi
  for entry in "${programs[@]}"; do
    command -v "${entry%%:*}" >/dev/null || echo "${entry#*:}"
  done | sort -u | paste -sd' '
}

require_packages() {
  local missing
  missing=$(missing_packages "$1")
  [[ -z $missing ]] ||
    die "$EXIT_MISSING" "missing packages: $missing; install them with: $SCRIPT_PATH install"
}

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

remove_service_policy() { as_root rm -f -- "$SERVICE_POLICY"; }

# policy-rc.d answering 101 is Debian's way to say that no package may start its service.
forbid_service_starts() {
  if [[ -e $SERVICE_POLICY ]]; then
    say "keeping the $SERVICE_POLICY that is there already"
    return
  fi
  trap remove_service_policy EXIT
  trap 'exit 130' INT TERM HUP
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$SERVICE_POLICY" >/dev/null
  as_root chmod 755 "$SERVICE_POLICY"
}

install_packages() {
  if [[ -z $(missing_packages yes) ]]; then
    say "everything is installed already: ${PACKAGES[*]}"
    return
  fi
  command -v apt-get >/dev/null ||
    die "$EXIT_MISSING" "missing: $(missing_packages yes); apt-get is not there, install them by hand"
  ((EUID == 0)) || command -v sudo >/dev/null ||
    die "$EXIT_MISSING" "missing: $(missing_packages yes); installing needs root or sudo"
  say "installing ${PACKAGES[*]}; their system services are not started"
  forbid_service_starts
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300)
  as_root "${apt[@]}" update
  as_root "${apt[@]}" install --no-install-recommends "${PACKAGES[@]}"
  [[ -z $(missing_packages yes) ]] ||
    die "$EXIT_FAILED" "still missing after the installation: $(missing_packages yes)"
  say "installed"
}
