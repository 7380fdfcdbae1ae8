"""The example models: real data, two versions each, registered in MLflow as ONNX."""
