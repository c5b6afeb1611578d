// Operations on channels-last volumes other than convolution: Backend's group "images and volumes" forwards here.
// Every tensor is F32 or BF16 on its own; the functions convert. Wrong shapes throw std::logic_error.
#pragma once

#include "kernels.h"

namespace longlive::cpu {

// x / max(||x||, 1e-12) * sqrt(C) * gamma over channels, then the activation. In place when the types are equal.
void channelNorm(Context& c, const Tensor& out, const Tensor& in, const Tensor& gamma, Activation a, ByteCode code);

// [T, H, W, factor * C] -> [factor * T, H, W, C]: channel slice j of frame t becomes frame factor * t + j.
void splitTime(Context& c, const Tensor& out, const Tensor& in, int factor);

// [T, C, H, W] <-> [T, H, W, C], out = in * mul[c] + add[c]; mul and add are F32 [C], or absent for 1 and 0.
void permute(Context& c, ChannelOrder order, const Tensor& out, const Tensor& in, const Tensor& mul, const Tensor& add);

// Activation::TanhClamp. In place when the types are equal.
void tanhClamp(Context& c, const Tensor& out, const Tensor& in);

// Pixel values -> bytes: clamp to [0, 1] (unit) or [-1, 1], map to [0, 255], truncate (spec 7.4). NaN becomes 0.
void toRgb8(Context& c, const Tensor& out, const Tensor& in, bool unit);

}  // namespace longlive::cpu
