#!/usr/bin/env bash
# Starts a private Slurm on this machine and returns when every node is idle: a matter of seconds.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: start.sh [NODES] [OPTION...]

Starts a Slurm with NODES nodes (default 4) named n1, n2, … on this machine, as the calling user, in one folder.
Afterwards: source slurm/one_machine/env.sh; then sinfo, sbatch, srun and sacct talk to it. stop.sh ends it.
A Slurm that is on the machine already is neither used nor touched.

  --cpus N          CPUs a node claims (default 4; they may be more than the machine has)
  --gpus N          made-up GPUs of a node (default 2): scheduled, in CUDA_VISIBLE_DEVICES, unable to compute
  --memory MB       memory a node claims (default 8000)
  --ports BASE      first of the ports used, BASE to BASE+10+NODES (default 17000)
  --state DIR       where the cluster lives (default /tmp/one-machine-slurm-UID); a short path without spaces
  --env-file FILE   what to write for users to source (default env.sh beside this script)
  --no-accounting   no database and no sacct; starts in half a second
  --no-hosts        do not name the nodes in /etc/hosts; runs over several nodes then need another way to resolve n1
  --repair          start again only the daemons that died, with the settings as they were

Partitions: main (default), low (main and high preempt it, with a warning of 10 s and requeue), high.
TEXT
}

# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source-path=SCRIPTDIR source=config.sh
source "$HERE/config.sh"

NODES=4 CPUS=4 GPUS=2 MEMORY=8000 PORTS=17000 ACCOUNTING=1 HOSTS=1 REPAIR=0
ENV_FILE=$DEFAULT_ENV_FILE

number() { # NAME VALUE SMALLEST LARGEST
    if [[ ! $2 =~ ^[0-9]{1,9}$ ]] || ((10#$2 < $3 || 10#$2 > $4)); then
        die "$1 must be a whole number from $3 to $4, got '$2'" 2
    fi
    echo $((10#$2))
}

parse() {
    local state=$DEFAULT_STATE
    while (($#)); do
        case $1 in
            -h | --help) usage && exit 0 ;;
            --no-accounting) ACCOUNTING=0 ;;
            --no-hosts) HOSTS=0 ;;
            --repair) REPAIR=1 ;;
            --cpus | --gpus | --memory | --ports | --state | --env-file)
                (($# > 1)) || die "$1 needs a value; see start.sh --help" 2
                case $1 in
                    --cpus) CPUS=$(number "$1" "$2" 1 1024) ;;
                    --gpus) GPUS=$(number "$1" "$2" 0 64) ;;
                    --memory) MEMORY=$(number "$1" "$2" 100 100000000) ;;
                    --ports) PORTS=$(number "$1" "$2" 1024 65000) ;;
                    --state) state=$2 ;;
                    --env-file) ENV_FILE=$2 ;;
                esac
                shift
                ;;
            -*) die "unknown option '$1'; see start.sh --help" 2 ;;
            *) NODES=$(number NODES "$1" 1 64) ;;
        esac
        shift
    done
    use_state "$(realpath -m -- "$state")"
    # Slurm's files have no way to quote a space, and the sockets in the folder have names of at most 107 characters.
    [[ $STATE =~ ^[A-Za-z0-9/._-]{1,60}$ ]] || die "--state must be a path of at most 60 plain characters, got '$STATE'" 2
}

check_programs() {
    local program
    for program in munged slurmctld slurmd; do
        command -v "$program" >/dev/null || die "$program is not installed; run $HERE/install.sh"
    done
    if ((ACCOUNTING)) && ! (command -v slurmdbd && command -v mariadbd) >/dev/null; then
        die "slurmdbd or mariadbd is not installed; run $HERE/install.sh, or use --no-accounting"
    fi
}

check_state() {
    local running
    [[ -w $(dirname "$ENV_FILE") ]] || die "cannot write $ENV_FILE; choose another --env-file"
    [[ ! -d $STATE || -O $STATE ]] || die "$STATE belongs to another user; choose another --state"
    [[ ! -d $STATE || -e $MARKER || -z $(ls -A "$STATE") ]] ||
        die "$STATE holds something else; choose another --state"
    running=$(running_daemons | xargs)
    [[ -z $running ]] || die "already running in $STATE: $running; stop.sh ends it, --repair starts what died"
    [[ -z $(job_processes) ]] ||
        die "processes of an earlier cluster in $STATE are left; stop.sh ends them"
}

check_ports() {
    local port
    for port in "$PORTS" $((PORTS + 1)) $((PORTS + 2)) $(seq $((PORTS + 11)) $((PORTS + 10 + NODES))); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            die "port $port is in use by something else; choose another --ports"
        fi
    done
}

prepare_state() {
    umask 022
    mkdir -p "$STATE"/{etc,run,log,ctld,spool,munge,mysql,dev}
    touch "$MARKER"
    rm -f "$STATE"/run/* # of a cluster that was killed
    [[ -e $STATE/munge/munge.key ]] || (umask 377 && head -c 128 /dev/urandom >"$STATE/munge/munge.key")
    write_slurm_conf
    write_gres_conf
    ((!ACCOUNTING)) || write_slurmdbd_conf
}

# Starts daemon NAME in a session of its own, so that neither Ctrl-C nor a closing terminal reaches it.
launch() { # NAME COMMAND...
    local name=$1
    shift
    # No function in between: $! has to be the daemon, not a shell that waits for it.
    "${CLEANLY[@]}" setsid "$@" </dev/null >>"$STATE/log/$name.out" 2>&1 &
    echo $! >"$STATE/run/$name.pid"
}

give_up() { # NAME: ends the start with the last that daemon NAME said
    tail -n 5 "$STATE/log/$1.out" "$STATE/log/$1.log" "$STATE/log/slurmd.$1.log" >&2 2>/dev/null || true
    die "$1 did not start; its log is in $STATE/log"
}

# Waits until COMMAND succeeds; gives up at once if NAME has died.
await() { # NAME COMMAND...
    local name=$1 deadline=$((SECONDS + 30))
    shift
    until "$@" >/dev/null 2>&1; do
        if ! is_alive "$(cat "$STATE/run/$name.pid")" || ((SECONDS > deadline)); then give_up "$name"; fi
        sleep 0.05
    done
}

start_munged() {
    # Forced, because else it wants a socket that all users can reach, and a folder may well be private.
    launch munged munged --foreground --force --num-threads=2 --key-file="$STATE/munge/munge.key" \
        --socket="$STATE/run/munge.sock" --pid-file="$STATE/munge/munged.pid" \
        --log-file="$STATE/log/munged.log" --seed-file="$STATE/munge/munged.seed"
    await munged munge -n -S "$STATE/run/munge.sock"
}

sql() {
    mariadb --no-defaults --socket="$STATE/run/mysql.sock" --user="$(id -un)" --execute "$1"
}

# The database of a trial need not outlive a power cut: never waiting for the disk saves most of the start's time.
# Every commit still reaches the system (log at trx commit = 2), so that a killed database forgets nothing.
readonly NO_SYNC=(--debug-no-sync --innodb-flush-method=nosync --innodb-flush-log-at-trx-commit=2)

start_mariadbd() {
    local user
    user=$(id -un)
    [[ -d $STATE/mysql/mysql ]] ||
        mariadb-install-db --no-defaults --user="$user" --auth-root-socket-user="$user" \
            --auth-root-authentication-method=socket --datadir="$STATE/mysql" --skip-test-db --skip-name-resolve \
            "${NO_SYNC[@]}" >"$STATE/log/mariadb-install-db.out" 2>&1 ||
        die "the database could not be made: $STATE/log/mariadb-install-db.out"
    launch mariadbd mariadbd --no-defaults --user="$user" --datadir="$STATE/mysql" --socket="$STATE/run/mysql.sock" \
        --pid-file="$STATE/mysql/mariadbd.pid" --bind-address=127.0.0.1 --port="$(setting StoragePort)" \
        --skip-name-resolve --innodb-buffer-pool-size=64M --innodb-log-file-size=32M --innodb-lock-wait-timeout=900 \
        --performance-schema=0 --max-connections=40 "${NO_SYNC[@]}"
    await mariadbd sql "select 1"
    sql "create database if not exists slurm_acct_db;
         create user if not exists 'slurm'@'127.0.0.1' identified by 'slurm';
         grant all on slurm_acct_db.* to 'slurm'@'127.0.0.1'"
}

setting() { # KEY of slurmdbd.conf
    sed -n "s/^$1=//p" "$STATE/etc/slurmdbd.conf"
}

start_slurmdbd() {
    launch slurmdbd slurmdbd -D
    await slurmdbd client sacctmgr -n -i list cluster
    # The controller has to find its cluster in the database when it first comes up.
    [[ -n $(client sacctmgr -n list cluster lab) ]] || client sacctmgr -i add cluster lab >/dev/null
}

start_slurmctld() {
    launch slurmctld slurmctld -D -f "$CONF"
    await slurmctld client sinfo -h
}

start_daemon() {
    case $1 in
        n[0-9]*) launch "$1" slurmd -D -N "$1" -f "$CONF" ;;
        *) "start_$1" ;;
    esac
}

# Every node answers; on a fresh cluster that means idle, on a kept one its jobs may be running already.
nodes_ready() {
    local states
    states=$(client sinfo -h -p main -N -o '%T') && ! grep -qvE '^(idle|mixed|allocated|completing)$' <<<"$states"
}

await_nodes() { # NODE...
    local node
    # Nodes that were drained or lost before the last stop would stay so: that is in the saved state.
    client scontrol update nodename=ALL state=resume >/dev/null 2>&1 || true
    await "$1" nodes_ready
    for node in "$@"; do
        daemon_pid "$node" >/dev/null || give_up "$node"
    done
}

# torch and submitit find the first node of a run by its name.
name_nodes_in_hosts() {
    local names=("$@")
    ((HOSTS)) || return 0
    if [[ -w /etc/hosts ]]; then
        rewrite_hosts "127.0.0.1 ${names[*]} $HOSTS_TAG"
    else
        echo "start.sh: cannot write /etc/hosts; runs over several nodes need 'n1' to resolve to this machine"
    fi
}

undo_failed_start() {
    "$HERE/stop.sh" --state "$STATE" --env-file "$ENV_FILE" >/dev/null || true
}

main() {
    local daemons nodes name
    parse "$@"
    check_programs
    if ((REPAIR)); then
        mapfile -t daemons < <(known_daemons)
        ((${#daemons[@]})) || die "nothing to repair in $STATE: no cluster was started there"
    else
        check_state
        check_ports
        prepare_state
        daemons=(munged)
        ((!ACCOUNTING)) || daemons+=(mariadbd slurmdbd)
        daemons+=(slurmctld)
        for ((name = 1; name <= NODES; name++)); do daemons+=("n$name"); done
        trap undo_failed_start EXIT
    fi
    for name in "${daemons[@]}"; do
        daemon_pid "$name" >/dev/null || start_daemon "$name"
    done
    mapfile -t nodes < <(printf '%s\n' "${daemons[@]}" | grep '^n')
    await_nodes "${nodes[@]}"
    name_nodes_in_hosts "${nodes[@]}"
    write_env_file "$ENV_FILE"
    trap - EXIT
    echo "start.sh: ${#nodes[@]} nodes are ready; source '$ENV_FILE'"
}

main "$@"
