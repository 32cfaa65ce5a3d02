"""The container images in which the components run (`components/Dockerfile`, `make images`)."""

IMAGE = "facewright:0.1.0"
CUDA_IMAGE = "facewright-cuda:0.1.0"  # trains on a GPU, or on a CPU as the other
TENSORRT_IMAGE = "facewright-tensorrt:0.1.0"  # builds engines, and runs them where a GPU is
