# What start.sh and stop.sh share: where things are, and which processes are this cluster's own.
# shellcheck shell=bash
# shellcheck disable=SC2034  # most of these names are used by the scripts that read this file

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
DEFAULT_STATE=/tmp/one-machine-slurm-$(id -u)
DEFAULT_ENV_FILE=$HERE/env.sh
PATH=$PATH:/usr/sbin:/sbin # where an ordinary user's PATH lacks the daemons

die() {
    echo "$(basename "$0"): $1" >&2
    exit "${2:-1}"
}

# Sets the paths of the cluster in folder $1.
use_state() {
    STATE=$1
    CONF=$STATE/etc/slurm.conf
    MARKER=$STATE/.one-machine-slurm # only a folder with this file is ever emptied
    HOSTS_TAG="# one-machine-slurm $STATE"
    # An environment that is the same from a login shell, inside a job of another Slurm, or in a test.
    # It also marks the processes: no other has the SLURM_CONF of this cluster.
    CLEANLY=(env -i PATH="$PATH" HOME="${HOME:-/}" LANG=C.UTF-8 "SLURM_CONF=$CONF")
}

# Asks the cluster. Without its controller Slurm's commands would wait for minutes.
client() {
    "${CLEANLY[@]}" timeout 10 "$@"
}

# A process that has ended but was not yet reaped by its parent is a zombie and counts as gone.
is_alive() {
    local status
    status=$(grep '^State:' "/proc/$1/status" 2>/dev/null) && [[ $status != *zombie* ]]
}

is_our_own() {
    grep -qzxF "SLURM_CONF=$CONF" "/proc/$1/environ" 2>/dev/null
}

# Prints the process id of daemon $1 if it runs. A pid file alone proves nothing: its number may be another process by now,
# even one of a user who sourced env.sh.
daemon_pid() {
    local pid program=$1
    [[ $1 != n[0-9]* ]] || program=slurmd
    pid=$(cat "$STATE/run/$1.pid" 2>/dev/null) && is_alive "$pid" && is_our_own "$pid" &&
        [[ $(tr '\0' ' ' <"/proc/$pid/cmdline") == "$program "* ]] && echo "$pid"
}

# Prints the daemons that have a pid file, in the order in which they depend on each other.
known_daemons() {
    local name
    for name in munged mariadbd slurmdbd slurmctld $(cd "$STATE/run" 2>/dev/null && ls -v n*.pid 2>/dev/null); do
        name=${name%.pid}
        [[ -e $STATE/run/$name.pid ]] && echo "$name"
    done
    return 0
}

running_daemons() {
    local name
    for name in $(known_daemons); do
        daemon_pid "$name" >/dev/null && echo "$name"
    done
    return 0
}

# Prints the process ids of job steps and of whatever jobs started. A shell that only sourced env.sh is not among them.
job_processes() {
    local environment pid
    while read -r environment; do
        pid=${environment//[!0-9]/}
        if grep -qz '^SLURM_JOB_ID=' "$environment" 2>/dev/null || grep -q '^slurmstepd' "/proc/$pid/comm" 2>/dev/null; then
            is_alive "$pid" && echo "$pid"
        fi
    done < <(grep -lzxF "SLURM_CONF=$CONF" /proc/[0-9]*/environ 2>/dev/null)
    return 0
}

# Writes /etc/hosts with line $1 in place of this cluster's, or without one if it is empty.
# In place, not by rename: in a container the file is a mount.
rewrite_hosts() {
    local kept
    [[ -w /etc/hosts ]] || return 0
    kept=$(grep -vF "$HOSTS_TAG" /etc/hosts || true)
    printf '%s\n' "$kept" ${1:+"$1"} >/etc/hosts
}
