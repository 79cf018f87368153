"""Variables of the environment that a plan may carry."""

from __future__ import annotations

import re

PLANNED = re.compile(
    r"CUDA_VISIBLE_DEVICES|PYTORCH_(?:CUDA_)?ALLOC_CONF|NPROC_PER_NODE|NNODES|NODE_RANK|MASTER_(?:ADDR|PORT)"
)
"""Those that the plan decides, or the launcher reads on each machine."""

CARRIED = re.compile(
    r"USE_HF|ROOT_IMAGE_DIR|N?FRAMES|(?:IMG|INPUT|BASE)_SIZE|HD_NUM|DOWNSAMPLE_MODE|USE_AUDIO_IN_VIDEO|ENABLE_AUDIO_OUTPUT"
    r"|MLFLOW_(?:EXPERIMENT_NAME|TRACKING_URI)"
    r"|(?:WANDB|SWANLAB|NCCL|HF|MODELSCOPE|OMP|TOKENIZERS|VIDEO|FPS|IMAGE|MIN|MAX|NUM|INFONCE|LISTWISE|QWENVL)(?:_[A-Z0-9_]+)?"
)
"""Of libraries, trackers and of ms-swift's templates and losses (its get_env_args). None of them, nor of `PLANNED`,
makes a program load code, as ``LD_PRELOAD`` or ``PYTHONPATH`` would."""
