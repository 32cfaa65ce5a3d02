"""Make a recognizer smaller and faster: distillation, ONNX export, INT8 quantization.

distillation.distill          a small student learns the embeddings of a large teacher
onnx_export.export_onnx       PyTorch → one FP32 ONNX file
quantization.quantize_onnx    FP32 → INT8, calibrated on real crops
quantization.parity           how far two forms of a recognizer are apart
"""
