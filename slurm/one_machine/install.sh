#!/usr/bin/env bash
# Installs what start.sh needs, from Debian's own packages (about 210 MB). Does nothing when it is all there.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: install.sh

Installs Slurm with accounting, munge and MariaDB from Debian's or Ubuntu's packages, for start.sh.
Needs root and apt-get; start.sh and stop.sh then work for any user. No service is started or left enabled.
A machine where a Slurm is configured already is left as it is.
TEXT
}

readonly PACKAGES=(slurm-wlm slurmdbd slurm-wlm-basic-plugins slurm-wlm-mysql-plugin munge mariadb-server)
readonly PROGRAMS=(slurmctld slurmd slurmdbd munged mariadbd mariadb-install-db sbatch srun sacct sacctmgr)
readonly SERVICES=(slurmctld slurmd slurmdbd munge mariadb)
readonly POLICY=/usr/sbin/policy-rc.d

die() {
    echo "install.sh: $1" >&2
    exit "${2:-1}"
}

missing_programs() {
    local program
    for program in "${PROGRAMS[@]}"; do
        command -v "$program" >/dev/null || echo "$program"
    done
}

# Debian asks this file before it starts a service. One that is there already has its own reasons and is respected.
forbid_service_starts() {
    if [[ ! -e $POLICY && ! -L $POLICY ]]; then
        trap 'rm -f "$POLICY"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$POLICY"
        chmod 755 "$POLICY"
    fi
}

# Nothing starts at the next boot either: the cluster of start.sh has daemons of its own.
disable_new_services() {
    local service
    command -v systemctl >/dev/null || return 0
    for service in "$@"; do
        systemctl --quiet disable "$service" 2>/dev/null || true
    done
}

services_not_yet_known() {
    local service
    for service in "${SERVICES[@]}"; do
        [[ -e /lib/systemd/system/$service.service || -e /etc/systemd/system/$service.service ]] || echo "$service"
    done
}

main() {
    case "${1:-}" in
        "") ;;
        -h | --help) usage && exit 0 ;;
        *) die "unknown argument '$1'; see install.sh --help" 2 ;;
    esac
    PATH=$PATH:/usr/sbin:/sbin # where an ordinary user's PATH lacks the daemons

    local missing new_services
    mapfile -t missing < <(missing_programs)
    if ((${#missing[@]} == 0)); then
        echo "install.sh: $(slurmctld -V) and all it needs is installed"
        return
    fi
    [[ ! -e /etc/slurm/slurm.conf ]] ||
        die "a Slurm is configured here (/etc/slurm/slurm.conf) without ${missing[*]}; ask who runs it to add them"
    command -v apt-get >/dev/null || die "no apt-get here: install by hand what gives ${missing[*]}"
    ((EUID == 0)) || die "installing ${missing[*]} needs root: sudo $0"

    mapfile -t new_services < <(services_not_yet_known)
    forbid_service_starts
    apt-get update --quiet=2
    DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends "${PACKAGES[@]}"
    disable_new_services "${new_services[@]}"
    echo "install.sh: installed $(slurmctld -V)"
}

main "$@"
