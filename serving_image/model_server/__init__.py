"""A model server for ONNX and MLflow models; `README.md` beside this package is its map."""

__version__ = "0.1.0"
