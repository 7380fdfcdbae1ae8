"""The smallest ONNX runtime for MLServer: its own numpy codec in and out."""

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri, options)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        (out,) = self.session.run(None, {"input": NumpyCodec.decode_input(payload.inputs[0])})
        outputs = [NumpyCodec.encode_output("probabilities", out)]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
