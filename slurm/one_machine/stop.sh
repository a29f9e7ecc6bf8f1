#!/usr/bin/env bash
# Stops the Slurm that start.sh started on this machine, its jobs included. Ends no other process.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: stop.sh [OPTION...]

Cancels all jobs, ends the daemons and whatever jobs left running, and removes the names in /etc/hosts and env.sh.
The job history and the logs stay for the next start.

  --wipe            remove the folder of the cluster as well: nothing is left
  --state DIR       the folder (default: that of env.sh, else /tmp/one-machine-slurm-UID)
  --env-file FILE   what start.sh wrote (default env.sh beside this script)
TEXT
}

# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

WIPE=0
ENV_FILE=$DEFAULT_ENV_FILE

state_of_env_file() {
    sed -n "s|^export SLURM_CONF='\(.*\)/etc/slurm.conf'\$|\1|p" "$ENV_FILE" 2>/dev/null || true
}

parse() {
    local state=""
    while (($#)); do
        case $1 in
            -h | --help) usage && exit 0 ;;
            --wipe) WIPE=1 ;;
            --state | --env-file)
                (($# > 1)) || die "$1 needs a value; see stop.sh --help" 2
                if [[ $1 == --state ]]; then state=$2; else ENV_FILE=$2; fi
                shift
                ;;
            *) die "unknown argument '$1'; see stop.sh --help" 2 ;;
        esac
        shift
    done
    state=${state:-$(state_of_env_file)}
    use_state "$(realpath -m -- "${state:-$DEFAULT_STATE}")"
}

no_job_runs() {
    [[ -z $(client squeue -h -t R,CG,S,CF) ]]
}

# Pending jobs first, or they would start where running ones end.
cancel_jobs() {
    daemon_pid slurmctld >/dev/null || return 0
    client scancel --state=PENDING || true
    client scancel --state=RUNNING || true
    client scancel --state=SUSPENDED || true
    within 10 no_job_runs || true # whatever is left is ended with its node
}

within() { # SECONDS COMMAND...: whether COMMAND succeeds by then
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

all_gone() {
    local pid
    for pid in "$@"; do
        if is_alive "$pid"; then return 1; fi
    done
}

# Asks processes to end, and makes those that have not after SECONDS.
end_processes() { # SECONDS PID...
    local patience=$1 pid
    shift
    (($#)) || return 0
    kill -TERM "$@" 2>/dev/null || true
    within "$patience" all_gone "$@" && return
    for pid in "$@"; do
        if is_our_own "$pid"; then kill -KILL "$pid" 2>/dev/null || true; fi
    done
    within 5 all_gone "$@" || die "these processes do not end: $*"
}

# Nodes together, then what they depend on, one after the other.
end_daemons() {
    local name pids=()
    for name in $(running_daemons | grep '^n' || true); do
        pids+=("$(daemon_pid "$name")")
    done
    end_processes 15 ${pids[@]+"${pids[@]}"}
    for name in slurmctld slurmdbd mariadbd munged; do
        if daemon_pid "$name" >/dev/null; then end_processes 20 "$(daemon_pid "$name")"; fi
    done
}

end_job_processes() {
    local pids
    mapfile -t pids < <(job_processes)
    end_processes 2 ${pids[@]+"${pids[@]}"}
}

remove_traces() {
    if grep -qF "$HOSTS_TAG" /etc/hosts; then rewrite_hosts ""; fi
    if [[ $(state_of_env_file) == "$STATE" ]]; then rm -f "$ENV_FILE"; fi
    if ((WIPE)) && [[ -e $MARKER ]]; then rm -rf "$STATE"; else rm -rf "$STATE/run"; fi
}

main() {
    parse "$@"
    [[ -d $STATE ]] || { echo "stop.sh: no cluster in $STATE" && remove_traces && return; }
    [[ -e $MARKER ]] || die "$STATE holds something else than a cluster of start.sh"
    cancel_jobs
    end_daemons
    end_job_processes
    remove_traces
    echo "stop.sh: stopped the cluster in $STATE"
}

main "$@"
