// The kernels as functions of tensors: what cuda_backend.cpp calls. Each checks its shapes, launches on `stream` and returns.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <span>

#include "ops.h"
#include "require.h"

namespace longlive::cuda {

inline int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t rowsOf(const Tensor& t) { return t.shape[-1] ? t.elements() / t.shape[-1] : 0; }
inline bool isFloat(const Tensor& t) { return t.dtype == DType::F32 || t.dtype == DType::BF16; }

// norms.cu
void layerNormModulate(cudaStream_t, const LinearRows& out, const Tensor& in, const Tensor& scale, const Tensor& shift, float eps);
void layerNormAffine(cudaStream_t, const LinearRows& out, const Tensor& in, const Tensor& weight, const Tensor& bias, float eps);
void rmsNorm(cudaStream_t, const Tensor& out, const Tensor& in, const Tensor& weight, float eps);
void rmsNormRope(cudaStream_t, const Tensor& out, const Tensor& in, const Tensor& weight, float eps, int64_t heads,
                 const RopeTables& tables, std::span<const int32_t> temporal);
// As rmsNormRope; bytes [heads, n, headDim] I8, of which each row stands for scale [heads, n] times as much. Of what canQuantizeQueries.
void quantizedQueries(cudaStream_t, const Tensor& bytes, const Tensor& scale, const Tensor& in, const Tensor& weight, float eps, int64_t heads,
                      const RopeTables& rope, std::span<const int32_t> temporal);
void rope(cudaStream_t, const Tensor& out, const Tensor& in, int64_t heads, const RopeTables& tables, std::span<const int32_t> temporal);
void channelNorm(cudaStream_t, const Tensor& out, const Tensor& in, const Tensor& gamma, Activation a);

// elementwise.cu
void convert(cudaStream_t, const Tensor& out, const Tensor& in);  // F32 <-> BF16, or a copy
void add(cudaStream_t, const Tensor& out, const Tensor& a, const Tensor& b);
void activate(cudaStream_t, const Tensor& out, const Tensor& in, Activation a);
void embed(cudaStream_t, const Tensor& out, const Tensor& table, std::span<const int32_t> ids);
// out = residual + gate * product, what remains of a linear's epilogue after a library's product. All of out's type.
void finishLinear(cudaStream_t, const Tensor& out, const Tensor& product, const Epilogue& e);
// Per row of what the activation makes of `in`: values = round(x / scale), as int8 with scale = max |x| / 127, or as fp8 with max |x| / 448.
void quantizeRows(cudaStream_t, const LinearRows& out, const Tensor& in, Activation a = Activation::None);

// sampling.cu
void patchify(cudaStream_t, const Tensor& tokens, const Tensor& latents);
void flowToX0(cudaStream_t, const Tensor& x0, const Tensor& xt, const Tensor& flow, float sigma);
void mix(cudaStream_t, const Tensor& out, const Tensor& a, const Tensor& b, float s);
void gaussian(cudaStream_t, const Tensor& out, uint64_t seed, uint32_t block, uint32_t step);

// volume.cu
void splitTime(cudaStream_t, const Tensor& out, const Tensor& in, int factor);
void permute(cudaStream_t, ChannelOrder order, const Tensor& out, const Tensor& in, const Tensor& mul, const Tensor& add);
void tanhClamp(cudaStream_t, const Tensor& out, const Tensor& in);  // Activation::TanhClamp
void toRgb8(cudaStream_t, const Tensor& out, const Tensor& in, bool unit);
void toI420(cudaStream_t, const Tensor& out, const Tensor& rgb);

// attention.cu, attention_plain.cu, attention_sm90.cu
enum class AttentionKernel : uint8_t { Best, Portable, Plain };
struct Workspace { void* data = nullptr; size_t bytes = 0; };  // of the lane, for the call at hand
void attention(cudaStream_t, const AttentionArgs& a, AttentionKernel choice, int computeMajor, const Workspace& workspace);
// attention_eight.cu, attention_eight_sm90.cu; for calls that fitsEightBit. Hopper: wgmma, values in fp8.
struct EightBitFormat;
struct EightBitLayout;
struct KeptKeys;
struct SelfAttention;
bool fitsEightBitHopper(int64_t headDim);
void attentionEightBit(cudaStream_t, const SelfAttention& a, const EightBitFormat& format, const EightBitLayout& layout, void* scratch, const Workspace& workspace);
// CudaBackend::keep; scratch of eightBitSums.
void keepEightBit(cudaStream_t, const KeptKeys& out, const Tensor& k, const Tensor& v, int64_t heads, uint32_t pages, int64_t rows, bool anew,
                  const EightBitFormat& format, void* scratch);

}  // namespace longlive::cuda
