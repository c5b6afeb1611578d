// Stands in for libcublasLt.so in tests: the functions that ops/cuda/cublaslt.cpp loads, over host memory. It checks what it
// is given as the library would, and multiplies by the definition, columns first.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "../../ops/e4m3.h"

namespace {

constexpr int kFp8 = 28;

struct Desc {
  int transA = 0, transB = 0, biasType = -1, scaleModeA = 0, scaleModeB = 0;
  uint32_t epilogue = 1;
  const void* bias = nullptr;
  const float *scaleA = nullptr, *scaleB = nullptr;
};
struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t leading;
};

float get(const void* p, int type, int64_t i) {
  if (type == 0) return static_cast<const float*>(p)[i];
  if (type == kFp8) return longlive::fromE4m3(static_cast<const uint8_t*>(p)[i]);
  const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t*>(p)[i]) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

void put(void* p, int type, int64_t i, float f) {
  if (type == 0) {
    static_cast<float*>(p)[i] = f;
    return;
  }
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  static_cast<uint16_t*>(p)[i] = static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

int products[64];  // by the type of their operands

}  // namespace

extern "C" {

int fakeCublasLtProducts(int type) { return products[type]; }

int cublasLtCreate(void** h) { return *h = new int, 0; }
int cublasLtDestroy(void* h) { return delete static_cast<int*>(h), 0; }
int cublasLtMatmulDescCreate(void** d, int compute, int scale) { return *d = new Desc, compute == 68 && scale == 0 ? 0 : 7; }
int cublasLtMatmulDescDestroy(void* d) { return delete static_cast<Desc*>(d), 0; }
int cublasLtMatmulDescSetAttribute(void* desc, int attribute, const void* value, size_t bytes) {
  Desc& d = *static_cast<Desc*>(desc);
  switch (attribute) {
    case 3: return bytes == 4 ? std::memcpy(&d.transA, value, 4), 0 : 7;
    case 4: return bytes == 4 ? std::memcpy(&d.transB, value, 4), 0 : 7;
    case 7: return bytes == 4 ? std::memcpy(&d.epilogue, value, 4), 0 : 7;
    case 8: return bytes == 8 ? std::memcpy(&d.bias, value, 8), 0 : 7;
    case 17: return bytes == 8 ? std::memcpy(&d.scaleA, value, 8), 0 : 7;
    case 18: return bytes == 8 ? std::memcpy(&d.scaleB, value, 8), 0 : 7;
    case 31: return bytes == 4 ? std::memcpy(&d.scaleModeA, value, 4), 0 : 7;
    case 32: return bytes == 4 ? std::memcpy(&d.scaleModeB, value, 4), 0 : 7;
    case 26: return bytes == 4 ? std::memcpy(&d.biasType, value, 4), 0 : 7;
    default: return 7;
  }
}
int cublasLtMatrixLayoutCreate(void** l, int type, uint64_t rows, uint64_t columns, int64_t leading) {
  return *l = new Layout{type, rows, columns, leading}, leading >= static_cast<int64_t>(rows) ? 0 : 7;
}
int cublasLtMatrixLayoutDestroy(void* l) { return delete static_cast<Layout*>(l), 0; }
int cublasLtMatmulPreferenceCreate(void** p) { return *p = new int, 0; }
int cublasLtMatmulPreferenceDestroy(void* p) { return delete static_cast<int*>(p), 0; }
int cublasLtMatmulPreferenceSetAttribute(void*, int attribute, const void*, size_t bytes) {
  return attribute == 1 ? (bytes == 8 ? 0 : 7) : (attribute >= 5 && attribute <= 8 && bytes == 4 ? 0 : 7);
}
// No GELU behind fp8: what uses the library must do without. Vectors of scales must lie somewhere already.
int cublasLtMatmulAlgoGetHeuristic(void*, void* desc, void* a, void*, void*, void*, void*, int wanted, void* result, int* found) {
  std::memset(result, 0, 96);
  const Desc& d = *static_cast<Desc*>(desc);
  if ((d.scaleModeA != 0 && !d.scaleA) || (d.scaleModeB != 0 && !d.scaleB)) return 7;
  const bool refused = static_cast<Layout*>(a)->type == kFp8 && (d.epilogue & 32);
  *found = refused ? 0 : wanted;
  return 0;
}

int cublasLtMatmul(void*, void* desc, const void* alpha, const void* a, void* aLayout, const void* b, void* bLayout, const void* beta, const void* c,
                   void*, void* d, void* dLayout, const void*, void*, size_t, void*) {
  const Desc& x = *static_cast<const Desc*>(desc);
  const Layout &la = *static_cast<Layout*>(aLayout), &lb = *static_cast<Layout*>(bLayout), &ld = *static_cast<Layout*>(dLayout);
  if (x.transA != 1 || x.transB != 0 || la.rows != lb.rows || la.columns != ld.rows || lb.columns != ld.columns) return 7;
  if ((x.epilogue & 4) && (!x.bias || x.biasType != ld.type)) return 7;
  const bool fp8 = la.type == kFp8;
  if (la.type != lb.type || (fp8 ? ld.type != 14 || x.scaleModeA != 3 || x.scaleModeB != 3 || !x.scaleA || !x.scaleB : la.type != ld.type)) return 7;
  ++products[la.type];
  const float factor = *static_cast<const float*>(alpha), add = *static_cast<const float*>(beta);
  for (uint64_t j = 0; j < ld.columns; ++j)
    for (uint64_t i = 0; i < ld.rows; ++i) {
      float sum = 0;
      for (uint64_t k = 0; k < la.rows; ++k)
        sum += get(a, la.type, static_cast<int64_t>(i) * la.leading + static_cast<int64_t>(k)) *
               get(b, lb.type, static_cast<int64_t>(j) * lb.leading + static_cast<int64_t>(k));
      const int64_t at = static_cast<int64_t>(j) * ld.leading + static_cast<int64_t>(i);
      float y = factor * sum * (fp8 ? x.scaleA[i] * x.scaleB[j] : 1.0f);
      if (add != 0) y += add * get(c, ld.type, at);
      if (x.epilogue & 4) y += get(x.bias, ld.type, static_cast<int64_t>(i));
      if (x.epilogue & 32) y = 0.5f * y * (1 + std::tanh(0.7978845608f * (y + 0.044715f * y * y * y)));
      put(d, ld.type, at, y);
    }
  return 0;
}

}  // extern "C"
