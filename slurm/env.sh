# What these scripts know about this site, and nothing else does. Edit it, or point SONDE_ENV at a file of your own.
# Partition, account and the like are Slurm's own variables: SBATCH_PARTITION, SBATCH_ACCOUNT, or options of sbatch.

SONDE="${SONDE:-sonde}"                                       # the binary, built with MPI; words before it may be "apptainer exec ..."
SONDE_SRUN="${SONDE_SRUN:---mpi=pmix --kill-on-bad-exit=1}"   # `srun --mpi=list` shows what a site has
export SONDE_WATCHDOG_SECONDS="${SONDE_WATCHDOG_SECONDS:-300}"  # shared file systems may stall for minutes
# module load openmpi hdf5                                    # for a build from modules

# launch SUBCOMMAND ...: sonde on all tasks of the job. DRY_RUN=1 prints the command instead.
launch() {
  # shellcheck disable=SC2086  # SONDE_SRUN and SONDE hold several words
  if [ "${DRY_RUN:-0}" = 1 ]; then
    printf '%q ' srun $SONDE_SRUN $SONDE "$@"
    printf '\n'
  else
    srun $SONDE_SRUN $SONDE "$@"
  fi
}

# alone SUBCOMMAND ...: sonde once, in the batch shell. DRY_RUN=1 prints the command instead.
alone() {
  # shellcheck disable=SC2086
  if [ "${DRY_RUN:-0}" = 1 ]; then
    printf '%q ' $SONDE "$@"
    printf '\n'
  else
    $SONDE "$@"
  fi
}
