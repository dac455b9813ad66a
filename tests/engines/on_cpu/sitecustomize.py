"""Run by every Python that has this folder on its path: SGLang starts processes of its own."""

import without_cuda

without_cuda.stand_in("sgl_kernel")
