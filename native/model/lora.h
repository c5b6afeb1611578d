// Merging of a LoRA adapter into base weights: W' = W + (alpha / rank) B A in float32; spec section 8.4.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/safetensors.h"

namespace longlive {

// W [out, in] += scale * B [out, rank] A [rank, in]
void mergeLora(std::vector<float>& w, const std::vector<float>& a, const std::vector<float>& b, int64_t out, int64_t in,
               int64_t rank, float scale);

// A safetensors file with all tensors of `base` under `basePrefix` (F32, prefix removed), adapted by every pair
// `adapterPrefix`NAME.lora_A.weight / lora_B.weight of `adapter`. Throws Error{InvalidPackage} naming the tensor if a pair is
// incomplete, has the wrong shape or has no base weight.
std::vector<uint8_t> mergeLora(const SafeTensors& base, const std::string& basePrefix, const SafeTensors& adapter,
                               const std::string& adapterPrefix, float scale);

}  // namespace longlive
