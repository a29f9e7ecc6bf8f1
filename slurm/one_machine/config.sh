# The configuration files of a cluster on one machine, from the settings of start.sh.
# Only what differs from Slurm's defaults for a reason; the reasons stand beside. Read by start.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154  # STATE, CONF, PORTS and so on are set by start.sh

# Prints "[FIRST-LAST]", or FIRST alone: Slurm takes no range of one.
range() {
    if (($1 == $2)); then echo "$1"; else echo "[$1-$2]"; fi
}

write_slurm_conf() {
    local gres=""
    ((GPUS == 0)) || gres="Gres=gpu:$GPUS"
    cat >"$CONF" <<CONF
ClusterName=lab
# The controller starts only where this is the short name of the host.
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
# A requeued job waits until its credential has expired: 120 s by default. Below 10 s a busy machine fails launches.
AuthInfo=socket=$STATE/run/munge.sock,cred_expire=10
CredType=cred/munge
SlurmctldPort=$PORTS
SlurmdPort=$((PORTS + 10))
SlurmctldPidFile=$STATE/ctld/slurmctld.pid
SlurmdPidFile=$STATE/spool/slurmd.%n.pid
StateSaveLocation=$STATE/ctld
SlurmdSpoolDir=$STATE/spool/%n
SlurmctldLogFile=$STATE/log/slurmctld.log
SlurmdLogFile=$STATE/log/slurmd.%n.log
SlurmctldDebug=info
SlurmdDebug=info
# Works without cgroups. It signals the whole process tree, so forked data-loading workers get signals too.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=0
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
# Jobs start within a second.
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,sched_min_interval=1000,bf_interval=2,batch_sched_delay=0
PriorityType=priority/basic
# Nodes may claim more CPUs and memory than the machine has.
SlurmdParameters=config_overrides
GresTypes=gpu
# A node that was lost comes back by itself, and is missed after half a minute instead of five.
ReturnToService=2
SlurmdTimeout=30
SlurmctldTimeout=30
InactiveLimit=0
MinJobAge=600
KillWait=5
OverTimeLimit=0
UnkillableStepTimeout=20
MaxArraySize=10001
MaxJobCount=20000
JobRequeue=1
# A job that is thrown out gets the signal of --signal first. Newer versions take this key here too.
SlurmctldParameters=preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PreemptExemptTime=0
PropagateResourceLimits=NONE
NodeName=n$(range 1 "$NODES") NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$(range $((PORTS + 11)) $((PORTS + 10 + NODES))) CPUs=$CPUS RealMemory=$MEMORY $gres State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=1-0 DefaultTime=10 State=UP PriorityTier=10
# main and high throw out jobs of low, after a warning of GraceTime seconds.
PartitionName=low Nodes=ALL MaxTime=1-0 DefaultTime=10 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=high Nodes=ALL MaxTime=1-0 DefaultTime=10 State=UP PriorityTier=100 PreemptMode=OFF
$(accounting_lines)
CONF
}

accounting_lines() {
    if ((ACCOUNTING)); then
        cat <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((PORTS + 2))
AccountingStoragePass=$STATE/run/munge.sock
AccountingStorageTRES=gres/gpu
CONF
    else
        echo "AccountingStorageType=accounting_storage/none"
    fi
}

# GPUs that are scheduled and numbered but cannot compute: each is a link to /dev/null. A GPU without a file drains its node.
write_gres_conf() {
    local gpu
    for ((gpu = 0; gpu < GPUS; gpu++)); do
        ln -sfn /dev/null "$STATE/dev/gpu$gpu"
    done
    : >"$STATE/etc/gres.conf"
    ((GPUS == 0)) || echo "Name=gpu File=$STATE/dev/gpu$(range 0 $((GPUS - 1)))" >"$STATE/etc/gres.conf"
}

write_slurmdbd_conf() {
    (
        umask 077 # slurmdbd refuses a file with a password that others can read
        cat >"$STATE/etc/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$STATE/run/munge.sock,cred_expire=10
DbdHost=$(hostname -s)
DbdAddr=127.0.0.1
DbdPort=$((PORTS + 2))
SlurmUser=$(id -un)
PidFile=$STATE/ctld/slurmdbd.pid
LogFile=$STATE/log/slurmdbd.log
DebugLevel=info
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((PORTS + 1))
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
CONF
    )
}

# What a user sources. Safe under `set -u`, and sourcing it twice changes nothing.
write_env_file() {
    cat >"$1" <<CONF
# shellcheck shell=sh
# Written by start.sh, removed by stop.sh: source it to use the Slurm on this machine.
export SLURM_CONF='$CONF'
case ":\${PATH:-}:" in
    *:/usr/sbin:*) ;;
    *) export PATH="\${PATH:-/usr/bin:/bin}:/usr/sbin" ;;
esac
CONF
}
