// The kernel functions behind CpuBackend: one free function per operation, so that each can be tested alone, replaced and
// compared with its plain form in reference.h. Contracts (shapes, aliasing, meaning) are those of ops.h.
//
// Every function gets the Context of its backend. Results never depend on the number of threads.
#pragma once

#include <memory>
#include <span>

#include "cpu_features.h"
#include "ops.h"
#include "thread_pool.h"

namespace longlive::cpu {

struct Context {
  ThreadPool* pool = nullptr;
  Isa isa = Isa::Portable;
  Precision precision = Precision::FP32;
};

// -- gemm*.cpp, quant*.cpp ----------------------------------------------------------------------------------------------
std::unique_ptr<LinearWeights> prepareLinear(const Context&, const float* weight, const float* bias, int64_t out, int64_t in,
                                             bool sensitive);
void linear(const Context&, const Tensor& out, const Tensor& in, const LinearWeights& w, const Epilogue& e);

// -- attention*.cpp -----------------------------------------------------------------------------------------------------
void attention(const Context&, const AttentionArgs& a);

// -- norms*.cpp ---------------------------------------------------------------------------------------------------------
void layerNormModulate(const Context&, const Tensor& out, const Tensor& in, const Tensor& scale, const Tensor& shift, float eps);
void layerNormAffine(const Context&, const Tensor& out, const Tensor& in, const Tensor& weight, const Tensor& bias, float eps);
void rmsNorm(const Context&, const Tensor& out, const Tensor& in, const Tensor& weight, float eps);
void rmsNormRope(const Context&, const Tensor& out, const Tensor& in, const Tensor& weight, float eps, int64_t heads,
                 const RopeTables& rope, std::span<const int32_t> temporal);
void rope(const Context&, const Tensor& out, const Tensor& in, int64_t heads, const RopeTables& rope,
          std::span<const int32_t> temporal);

// -- conv*.cpp ----------------------------------------------------------------------------------------------------------
std::unique_ptr<ConvWeights> prepareConv(const Context&, const float* weight, const float* bias, int64_t out, int64_t in, int kt,
                                         int kh, int kw, bool sensitive);
void conv(const Context&, const Backend::ConvArgs& a);

// -- volume*.cpp --------------------------------------------------------------------------------------------------------
void channelNorm(const Context&, const Tensor& out, const Tensor& in, const Tensor& gamma, Activation a);
void splitTime(const Context&, const Tensor& out, const Tensor& in, int factor);
void toChannelsLast(const Context&, const Tensor& out, const Tensor& in, const Tensor& mul, const Tensor& add);
void toChannelsFirst(const Context&, const Tensor& out, const Tensor& in, const Tensor& mul, const Tensor& add);
void tanhClamp(const Context&, const Tensor& out, const Tensor& in, float limit);
void toRgb8(const Context&, const Tensor& out, const Tensor& in, bool unit);

}  // namespace longlive::cpu
