#include "cublaslt.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

#include "launch.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#define LONGLIVE_CHECK_CUBLASLT 1
#endif

namespace longlive::cuda {

namespace {

constexpr uint32_t kAlignment = 16;      // of all pointers and rows

// Constants of the ABI.
constexpr int kOpN = 0, kOpT = 1;
constexpr int kCompute32F = 68;
constexpr int kReal32F = 0, kReal16Bf = 14, kReal8F = 28;
constexpr int kDescTransA = 3, kDescTransB = 4, kDescEpilogue = 7, kDescBias = 8, kDescBiasType = 26;
constexpr int kDescScaleA = 17, kDescScaleB = 18, kDescScaleModeA = 31, kDescScaleModeB = 32;
constexpr int32_t kScaleVectors = 3;
constexpr uint32_t kEpilogueNone = 1, kEpilogueBias = 4, kEpilogueGelu = 32;
constexpr int kPrefWorkspace = 1, kPrefAlignA = 5, kPrefAlignB = 6, kPrefAlignC = 7, kPrefAlignD = 8;

struct Algorithm { uint64_t data[8]; };
struct Heuristic {
  Algorithm algorithm;
  size_t workspace;
  int status;
  float waves;
  int reserved[4];
};

#ifdef LONGLIVE_CHECK_CUBLASLT  // wherever the header is at hand, the compiler compares
static_assert(kOpN == CUBLAS_OP_N && kOpT == CUBLAS_OP_T && kCompute32F == CUBLAS_COMPUTE_32F);
static_assert(kReal32F == CUDA_R_32F && kReal16Bf == CUDA_R_16BF);
static_assert(kDescTransA == CUBLASLT_MATMUL_DESC_TRANSA && kDescTransB == CUBLASLT_MATMUL_DESC_TRANSB);
static_assert(kDescEpilogue == CUBLASLT_MATMUL_DESC_EPILOGUE && kDescBias == CUBLASLT_MATMUL_DESC_BIAS_POINTER);
static_assert(kDescBiasType == CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE);
static_assert(kReal8F == CUDA_R_8F_E4M3 && kDescScaleA == CUBLASLT_MATMUL_DESC_A_SCALE_POINTER && kDescScaleB == CUBLASLT_MATMUL_DESC_B_SCALE_POINTER);
#if CUBLAS_VERSION >= 120900
static_assert(kDescScaleModeA == CUBLASLT_MATMUL_DESC_A_SCALE_MODE && kDescScaleModeB == CUBLASLT_MATMUL_DESC_B_SCALE_MODE);
static_assert(kScaleVectors == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
#endif
static_assert(kEpilogueNone == CUBLASLT_EPILOGUE_DEFAULT && kEpilogueBias == CUBLASLT_EPILOGUE_BIAS);
static_assert(kEpilogueGelu == CUBLASLT_EPILOGUE_GELU && (kEpilogueGelu | kEpilogueBias) == CUBLASLT_EPILOGUE_GELU_BIAS);
static_assert(kPrefWorkspace == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
static_assert(kPrefAlignA == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES && kPrefAlignB == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
static_assert(kPrefAlignC == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES && kPrefAlignD == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t) && sizeof(Heuristic) == sizeof(cublasLtMatmulHeuristicResult_t));
static_assert(offsetof(Heuristic, workspace) == offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
#endif

int realOf(DType type) { return type == DType::F32 ? kReal32F : type == DType::BF16 ? kReal16Bf : kReal8F; }

void* openLibrary(std::string& name) {
  const char* chosen = std::getenv("LONGLIVE_CUBLASLT");
  if (chosen && std::strcmp(chosen, "off") == 0) return nullptr;
  for (const char* candidate : {chosen, "libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}) {
    if (!candidate || !*candidate) continue;
    if (void* library = dlopen(candidate, RTLD_NOW | RTLD_LOCAL)) {
      name = candidate;
      return library;
    }
  }
  return nullptr;
}

}  // namespace

struct CublasLt::Functions {
  int (*create)(void**);
  int (*destroy)(void*);
  int (*descCreate)(void**, int compute, int scale);
  int (*descDestroy)(void*);
  int (*descSet)(void*, int, const void*, size_t);
  int (*layoutCreate)(void**, int type, uint64_t rows, uint64_t columns, int64_t leading);
  int (*layoutDestroy)(void*);
  int (*preferenceCreate)(void**);
  int (*preferenceDestroy)(void*);
  int (*preferenceSet)(void*, int, const void*, size_t);
  int (*heuristic)(void*, void*, void*, void*, void*, void*, void*, int, Heuristic*, int*);
  int (*matmul)(void*, void*, const void*, const void*, void*, const void*, void*, const void*, const void*, void*, void*, void*,
                const Algorithm*, void*, size_t, cudaStream_t);

  bool load(void* library) {
    const auto find = [library](auto& f, const char* name) {
      f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(dlsym(library, name));
      return f != nullptr;
    };
    return find(create, "cublasLtCreate") && find(destroy, "cublasLtDestroy") && find(descCreate, "cublasLtMatmulDescCreate") &&
           find(descDestroy, "cublasLtMatmulDescDestroy") && find(descSet, "cublasLtMatmulDescSetAttribute") &&
           find(layoutCreate, "cublasLtMatrixLayoutCreate") && find(layoutDestroy, "cublasLtMatrixLayoutDestroy") &&
           find(preferenceCreate, "cublasLtMatmulPreferenceCreate") && find(preferenceDestroy, "cublasLtMatmulPreferenceDestroy") &&
           find(preferenceSet, "cublasLtMatmulPreferenceSetAttribute") && find(heuristic, "cublasLtMatmulAlgoGetHeuristic") &&
           find(matmul, "cublasLtMatmul");
  }
};

// cuBLASLt counts columns first: the row-major out is its [columns, rows] matrix D = A^T B with A = weight, B = in.
struct CublasLt::Plan {
  const Functions& f;
  void *desc = nullptr, *a = nullptr, *b = nullptr, *d = nullptr;
  Algorithm algorithm{};
  bool usable = false;

  Plan(const Functions& functions, void* handle, const Key& k, const LtProduct& p) : f(functions) {
    const int type = realOf(k.type), operands = realOf(k.operands);
    const uint32_t epilogue = (k.gelu ? kEpilogueGelu : 0) | (k.bias ? kEpilogueBias : 0);
    void* preference = nullptr;
    const auto set = [&](int attribute, const auto& value) { return f.descSet(desc, attribute, &value, sizeof value) == 0; };
    const auto prefer = [&](int attribute, const auto& value) { return f.preferenceSet(preference, attribute, &value, sizeof value) == 0; };
    bool ok = f.descCreate(&desc, kCompute32F, kReal32F) == 0 && set(kDescTransA, kOpT) && set(kDescTransB, kOpN) &&
              set(kDescEpilogue, epilogue ? epilogue : kEpilogueNone) && (!k.bias || set(kDescBiasType, type)) &&
              (operands != kReal8F || (set(kDescScaleModeA, kScaleVectors) && set(kDescScaleModeB, kScaleVectors))) && point(p) &&
              f.layoutCreate(&a, operands, static_cast<uint64_t>(k.depth), static_cast<uint64_t>(k.columns), k.stride) == 0 &&
              f.layoutCreate(&b, operands, static_cast<uint64_t>(k.depth), static_cast<uint64_t>(k.rows), k.depth) == 0 &&
              f.layoutCreate(&d, type, static_cast<uint64_t>(k.columns), static_cast<uint64_t>(k.rows), k.columns) == 0 &&
              f.preferenceCreate(&preference) == 0 && prefer(kPrefWorkspace, static_cast<uint64_t>(kWorkspaceBytes));
    for (int attribute : {kPrefAlignA, kPrefAlignB, kPrefAlignC, kPrefAlignD}) ok = ok && prefer(attribute, kAlignment);
    Heuristic best{};
    int found = 0;
    ok = ok && f.heuristic(handle, desc, a, b, d, d, preference, 1, &best, &found) == 0 && found > 0 && best.status == 0;
    if (preference) f.preferenceDestroy(preference);
    algorithm = best.algorithm;
    usable = ok;
  }
  ~Plan() {
    if (desc) f.descDestroy(desc);
    for (void* layout : {a, b, d})
      if (layout) f.layoutDestroy(layout);
  }
  Plan(const Plan&) = delete;

  // Where this call's bias and scales lie. The library must know before it is asked for an algorithm, too: it has none for vectors of
  // scales that lie nowhere.
  bool point(const LtProduct& p) {
    const auto at = [&](int attribute, const auto* pointer) { return !pointer || f.descSet(desc, attribute, &pointer, sizeof pointer) == 0; };
    return at(kDescBias, p.bias) && at(kDescScaleA, p.columnScale) && at(kDescScaleB, p.rowScale);
  }
};

CublasLt::CublasLt() = default;

std::unique_ptr<CublasLt> CublasLt::open() {
  std::unique_ptr<CublasLt> lt(new CublasLt);
  void* library = openLibrary(lt->name_);
  if (!library) return nullptr;
  lt->f_ = std::make_unique<Functions>();
  // The library stays loaded: it may own threads and device state until the process ends.
  if (!lt->f_->load(library) || lt->f_->create(&lt->handle_) != 0) return nullptr;
  return lt;
}

CublasLt::~CublasLt() {
  plans_.clear();
  if (handle_) f_->destroy(handle_);
}

CublasLt::Plan* CublasLt::plan(const LtProduct& p) {
  const Key key{p.rows, p.columns, p.depth, p.stride, p.type, p.operands, p.gelu, p.bias != nullptr, p.addend != nullptr};
  std::unique_ptr<Plan>& made = plans_[key];
  if (!made) made = std::make_unique<Plan>(*f_, handle_, key, p);
  return made->usable && made->point(p) ? made.get() : nullptr;
}

bool CublasLt::multiply(cudaStream_t stream, void* workspace, const LtProduct& p) {
  for (int64_t bytes : {p.depth * static_cast<int64_t>(sizeOf(p.operands)), p.stride * static_cast<int64_t>(sizeOf(p.operands)),
                        p.columns * static_cast<int64_t>(sizeOf(p.type))})
    if (bytes % kAlignment != 0) return false;
  for (const void* pointer : {static_cast<const void*>(p.out), p.in, p.weight, p.bias, p.addend, static_cast<const void*>(p.rowScale),
                              static_cast<const void*>(p.columnScale)})
    if (reinterpret_cast<uintptr_t>(pointer) % kAlignment != 0) return false;
  const std::lock_guard lock(planning_);
  Plan* plan = this->plan(p);
  if (!plan) return false;
  const float one = 1.0f, addendFactor = p.addend ? 1.0f : 0.0f;
  const void* c = p.addend ? p.addend : p.out;  // not read when its factor is 0
  const int status = f_->matmul(handle_, plan->desc, &one, p.weight, plan->a, p.in, plan->b, &addendFactor, c, plan->d, p.out, plan->d,
                                &plan->algorithm, workspace, kWorkspaceBytes, stream);
  // Only a failed execution, or an internal error, may be the device's; any other status is a product that the library refuses.
  constexpr int executionFailed = 13, internalError = 14;
  const bool ofDevice = status == executionFailed || status == internalError;
  if (status != 0) throw Error(ofDevice ? ErrorCode::DeviceFault : ErrorCode::Internal, "cuBLASLt: matmul failed with status " + std::to_string(status));
  return true;
}

}  // namespace longlive::cuda
