#include "attention_device.cuh"
namespace longlive::cuda {
bool attentionHopper(cudaStream_t, const AttentionCall&, int64_t) { return false; }
}
