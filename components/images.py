"""The container image in which the components run; the package is installed in it."""

IMAGE = "facewright:0.1.0"
