#!/bin/bash
# All stages of all subjects: bash submit.sh, in the folder with neuroclips.toml and stage.sbatch.
# A task begins when the task of the same subject in the job before has ended well.
set -eu
subjects=${SUBJECTS:-1-3}

# submit "what to wait for" "Slurm's options" COMMAND [OPTIONS]
submit() {
    local after=$1 resources=$2
    shift 2
    # Slurm's options are several words.
    # shellcheck disable=SC2086
    sbatch --parsable --array="$subjects" ${after:+--dependency=aftercorr:$after} $resources \
        stage.sbatch "$@"
}

preprocess=$(submit "" "--mem=16G" preprocess)
perception=$(submit "$preprocess" "--gres=gpu:1" train-pr)
semantics=$(submit "$preprocess" "--gres=gpu:1" train-sr)
clips=$(submit "$perception:$semantics" "--gres=gpu:1" reconstruct)
chains=$(submit "$clips" "--gres=gpu:1" fuse)
metrics=$(submit "$clips" "--gres=gpu:1" evaluate)
page=$(submit "$chains:$metrics" "--mem=8G" report)
echo "submitted; the reports are job $page"
