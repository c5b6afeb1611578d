// The CPU backend's data movement, sampling arithmetic (spec section 5) and colour conversion. Contracts as in ops.h.
#pragma once

#include "kernels.h"

namespace longlive::cpu {

void copy(Context& c, const Tensor& out, const Tensor& in);  // F32 and BF16 convert, other types must be equal
void embed(Context& c, const Tensor& out, const Tensor& table, std::span<const int32_t> ids);
void patchify(const Tensor& tokens, const Tensor& latents);
void flowToX0(Context& c, const Tensor& x0, const Tensor& xt, const Tensor& flow, float sigma);
void mix(const Tensor& out, const Tensor& a, const Tensor& b, float s);
void toI420(Context& c, const Tensor& out, const Tensor& rgb);

}  // namespace longlive::cpu
