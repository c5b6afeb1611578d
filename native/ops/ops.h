// The operations the model is written in. native/model knows this header and nothing of any device; a backend is a
// folder beside it (cpu/, cuda/) that implements Backend.
//
// Conventions
//  * Tensors are contiguous and row-major. Token matrices are [tokens, width]; images and volumes are channels-last,
//    [T, H, W, C]; heads are the slow half of a row: row = [heads, headDim].
//  * Activations have dtype activationType(): F32 on the CPU whatever the precision (the matrix kernels round their
//    operands to bf16 or int8 themselves), BF16 on CUDA unless the precision is FP32.
//  * "per frame" vectors are [frames, width]; token i belongs to frame i / (tokens / frames).
//  * What an operation may allocate of the device's memory stands at the end of its line, in brackets: [nothing], [its result], or
//    [scratch], which the backend keeps for itself: it grows while the largest calls are first met, and then stays. Beyond that nothing
//    allocates, and nothing synchronises with the host unless it says so. `out` may alias an input only where the comment says "in place".
//  * Programming errors (wrong shapes between model and ops) throw std::logic_error; running out of memory or a device
//    fault throws longlive::Error (native/include/longlive/error.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>

#include "longlive/types.h"
#include "stored_matrix.h"
#include "tensor.h"

namespace longlive {

// TanhClamp is limit * tanh(x / limit), what tiny decoders do to latents; activate() alone has it.
enum class Activation : uint8_t { None, GeluTanh, Silu, Relu, TanhClamp };
constexpr float kTanhClamp = 3.0f;

// What a layer norm's result is scaled by.
enum class NormScale : uint8_t { Modulate, Affine };

// Where the channels of a volume stand. First: latents as an encoder of pictures gives them (ConvArgs).
enum class ChannelOrder : uint8_t { First, Last };

// How far below 16 bits a linear layer may go (spec 9.2).
enum class EightBit : uint8_t {
  Never,    // embeddings, head, time projection
  Weights,  // its weights alone, where the package stores them so: the text encoder, whose activations have outliers
  Full,     // weights and activations, under Precision::INT8 and FP8
};

// Weights in the layout and precision a backend's kernels want. Built once at load.
struct LinearWeights {
  virtual ~LinearWeights() = default;
  int64_t in = 0, out = 0;
  size_t bytes = 0;  // that they hold on the device; set by loadLinear
};
// What numbers lie between, where that is known beforehand (low < high).
struct Bounds {
  float low = 0, high = 0;
  explicit operator bool() const { return low < high; }
};
// How bytes stand for numbers: step * (byte - zero). A step of 0: the numbers are no bytes.
struct ByteCode {
  float step = 0;
  uint8_t zero = 0;
};
struct ConvWeights {
  virtual ~ConvWeights() = default;
  int64_t in = 0, out = 0;
  int kt = 1, kh = 1, kw = 1;
  DType input = DType::F32;  // what conv() takes with them as `in` and `history`
  ByteCode code;             // of U8
  size_t bytes = 0;          // that they hold on the device
};

// What happens to a linear's result before it is stored.
struct Epilogue {
  Activation activation = Activation::None;
  Tensor multiply{};  // [n, out]: result *= multiply (gated feed-forward of UMT5)
  Tensor residual{};  // [n, out]: out = residual + result * gate; may alias out
  Tensor gate{};      // per frame [frames, out]; absent means 1
};

// Rows of a KV buffer that a query may see. Order does not matter to attention.
struct KeyRange { int64_t begin = 0, count = 0; };

// Rotation of (re, im) pairs of each head: pairs [0, t) by the temporal position, the next h by the row, the next w by
// the column; spec section 2.6. Tables are float32 cos/sin made from float64 angles.
struct RopeTables {
  Tensor temporal;  // [positions, t, 2]
  Tensor row;       // [gridHeight, h, 2]
  Tensor column;    // [gridWidth, w, 2]
  int64_t gridHeight = 0, gridWidth = 0;
};

// The rotation of one call: tables, and the temporal position of each frame of its rows.
struct RotationAt {
  const RopeTables* tables = nullptr;
  std::span<const int32_t> temporal;
};

struct AttentionArgs {
  Tensor out;       // [n, heads * headDim]
  Tensor q;         // [n, heads * headDim], already normalised (and rotated)
  Tensor k, v;      // [rows, heads * headDim]; k already rotated; dtype kvType() or activationType()
  std::span<const KeyRange> visible;
  int64_t heads = 1;
  float scale = 1.0f;
  // Optional [heads, n + keys - 1] F32, added to the logits by relative position (UMT5): visible key j and query i take entry
  // j - i + n - 1; keys = sum of visible counts.
  Tensor bias;
  float lastKeyLogBias = 0.0f;  // added to the logit of the very last visible key (collapsed text padding, spec 2.5)
  bool eightBit = false;        // BackendOptions::attention may choose 8-bit products here; not with biases
};

struct DeviceInfo {
  std::string name;         // e.g. "AMD EPYC" or "NVIDIA H100 80GB HBM3"
  std::string isa;          // e.g. "avx512+bf16+vnni", "sm_90"
  int64_t totalMemory = 0;  // bytes
  int64_t freeMemory = 0;   // bytes, when asked; 0 where nobody can say
  size_t working = 0;       // bytes, when asked, that the backend holds for itself: staging, workspaces, scratch
  int threads = 1;
};

// The operations of a lane run in order; lanes run beside each other on devices that can (Backend::concurrent). So may threads,
// each in a lane of its own.
enum class Lane : uint8_t { Main, Decode, Text, Count };

// A point in a lane's work.
class Mark {
 public:
  virtual ~Mark() = default;
};

// A piece of work that a backend has recorded to replay it (Backend::replay).
class Recording {
 public:
  virtual ~Recording() = default;
};

// Device memory with one owner; freed with the object.
class Storage {
 public:
  virtual ~Storage() = default;
  void* data = nullptr;
  size_t bytes = 0;
};

// What stays the same as long as a backend lives.
struct BackendTraits {
  Precision precision = Precision::FP32;
  DType activation = DType::F32;  // of activations
  DType keyValue = DType::F32;    // of keys and values that are kept: F32 for FP32, else BF16
  DType conv = DType::F32;        // what conv() takes with weights that are not sensitive
  bool concurrent = false;        // lanes run beside each other
  bool sharesLanes = false;       // a lane keeps something between operations (staging, scratch, a recording): one call in it at a time
  bool runsAhead = false;         // a session gives the next block's first step to the device while this block's frames are decoded
  bool replays = false;           // replay() records
};

class KeyValues;
struct KeyValueLayout;

class Backend {
 public:
  virtual ~Backend() = default;

  const BackendTraits& traits() const { return traits_; }
  Precision precision() const { return traits_.precision; }
  DType activationType() const { return traits_.activation; }
  DType kvType() const { return traits_.keyValue; }
  DType convType() const { return traits_.conv; }
  bool concurrent() const { return traits_.concurrent; }
  bool sharesLanes() const { return traits_.sharesLanes; }
  bool runsAhead() const { return traits_.runsAhead; }
  bool replays() const { return traits_.replays; }

  virtual DeviceInfo info() const = 0;  // [nothing]
  // What linear() and the layer norms should write for EightBit::Full layers of this width: those would make it of anything else, each for
  // itself. Rows of activationType() serve every layer. [nothing]
  virtual DType linearType(int64_t /*width*/) const { return activationType(); }

  // -- memory ---------------------------------------------------------------------------------------------------------
  virtual std::unique_ptr<Storage> allocate(size_t bytes) = 0;      // zeroed, 64-byte aligned [its result]
  // Host memory that copyOut can write while the host goes on. [its result, of the host's memory]
  virtual std::unique_ptr<Storage> allocateHost(size_t bytes) { return allocate(bytes); }
  virtual void upload(const Tensor& out, const float* host) = 0;    // `out` any shape; converts F32 to out.dtype [nothing]
  // Rows [out, in] of a table as they lie in a file. Throws Error{InvalidPackage} naming it where it holds NaN or infinity. [nothing]
  virtual void uploadRows(const Tensor& out, const StoredMatrix& rows);
  virtual void download(float* host, const Tensor& in) = 0;         // `in` any shape; converts to F32; synchronises [nothing]
  // The bytes of `in`, any shape; they are there when a later mark of this lane has been waited for. [nothing]
  virtual void copyOut(void* host, const Tensor& in) = 0;
  virtual void fill(const Tensor& out, uint8_t byte) = 0;           // every byte of any shape [nothing]
  virtual void copy(const Tensor& out, const Tensor& in) = 0;       // same elements; converts dtype [nothing]
  virtual void synchronize() = 0;                                   // waits for every lane [nothing]
  // The bytes of `in`, any shape, as they are, once everything before in this lane has happened. [nothing]
  void downloadBytes(void* host, const Tensor& in);

  // -- order ------------------------------------------------------------------------------------------------------------
  // Without lanes everything has happened when a call returns, and these have nothing to do.
  virtual Lane use(Lane) { return Lane::Main; }  // what this thread does next goes to this lane; gives the one before [nothing]
  virtual std::unique_ptr<Mark> makeMark() { return std::make_unique<Mark>(); }  // [its result]
  virtual void mark(Mark&) {}                    // all that the current lane was given so far [nothing]
  virtual void follow(const Mark&) {}            // what the current lane is given from now on runs after the mark [nothing]
  virtual void wait(const Mark&) {}              // the host waits; a mark that was never set is no wait [nothing]

  // Runs `work`: operations on the current lane that neither allocate nor wait, once they have run before. It must do the same
  // for the same `version` each time it comes with this recording. A backend that can (CUDA graphs) runs it, records
  // it when it comes again, and from then on replays the record; the results are the same to the bit. Work that the device refuses to
  // record runs as it is, then and ever after, and is counted. [its result: the record]
  virtual void replay(std::unique_ptr<Recording>&, uint64_t /*version*/, const std::function<void()>& work) { work(); }

  // -- weights (PyTorch layout, in host memory) ---------------------------------------------------------------------------
  // weight [out, in] from a file, bias [out] or null. Throws Error{InvalidPackage} naming the tensor where it holds NaN or infinity.
  // [its result; scratch, in which weights are packed]
  virtual std::unique_ptr<LinearWeights> loadLinear(const StoredMatrix& weight, const float* bias, EightBit eightBit) = 0;
  // The same of F32. `sensitive` is EightBit::Never, else EightBit::Full. [its result; scratch]
  std::unique_ptr<LinearWeights> prepareLinear(const float* weight, const float* bias, int64_t out, int64_t in, bool sensitive = false);
  // weight [out, in, kt, kh, kw], bias [out] or null. `sensitive`: in F32 on every device and in every precision, for small convolutions
  // whose rounding is seen. upsample2x: the weights serve ConvArgs::upsample2x calls, and only those. `bounds` of what it will read let a
  // backend take that in bytes, below Precision::FP32. [its result; scratch, in which weights are packed]
  virtual std::unique_ptr<ConvWeights> prepareConv(const float* weight, const float* bias, int64_t out, int64_t in, int kt, int kh, int kw,
                                                   bool sensitive = false, bool upsample2x = false, Bounds bounds = {}) = 0;

  // -- token matrices ---------------------------------------------------------------------------------------------------
  // out[n, W.out] = epilogue(in[n, W.in] W^T + b). Rows in 8 bits are of linearType(); as `out` they come without multiply, residual and
  // gate, and hold what rows of activationType() would, rounded once more. [scratch]
  virtual void linear(const LinearRows& out, const LinearRows& in, const LinearWeights& w, const Epilogue& e = {}) = 0;
  // LayerNorm without parameters of rows [n, width]; then * (1 + scale) + shift, both per frame (Modulate), or * scale + shift, both
  // [width] (Affine). [nothing]
  virtual void layerNorm(const LinearRows& out, const Tensor& in, NormScale kind, const Tensor& scale, const Tensor& shift, float eps) = 0;
  // RMSNorm over the whole row [n, width], weight [width]; in place allowed; out may be of kvType(). [scratch]
  virtual void rmsNorm(const Tensor& out, const Tensor& in, const Tensor& weight, float eps) = 0;
  // The same, then the rotation; heads split the row, rows are frames. What stores of keys and values are made of. [scratch]
  virtual void rmsNormRope(const Tensor& out, const Tensor& in, const Tensor& weight, float eps, int64_t heads, const RotationAt& at) = 0;
  // The rotation alone of rows [n, width]; in place allowed; both may be of kvType(). [scratch]
  virtual void rope(const Tensor& out, const Tensor& in, int64_t heads, const RotationAt& at) = 0;
  // out [n, heads * headDim] of q, likewise, and the visible ones of k and v [rows, heads * headDim]; bias [heads, n + keys - 1] or absent. [scratch]
  virtual void attention(const AttentionArgs& a) = 0;
  // A store of keys and values for self-attention, of frames * frameTokens rows [width] per layer (key_values.h). Throws Error{InvalidArgument} for a storage that the device has not. [its result]
  virtual std::unique_ptr<KeyValues> makeKeyValues(const KeyValueLayout& layout) = 0;

  // -- elementwise ------------------------------------------------------------------------------------------------------
  // a + b of [n, width]; b may be one row, broadcast; in place. [nothing]
  virtual void add(const Tensor& out, const Tensor& a, const Tensor& b) = 0;
  // Any shape; in place. activationType(), with TanhClamp also F32 and convType(). [nothing]
  virtual void activate(const Tensor& out, const Tensor& in, Activation a) = 0;
  // out [ids, width]: rows of a table [rows, width], F32 or BF16. [nothing]
  virtual void embed(const Tensor& out, const Tensor& table, std::span<const int32_t> ids) = 0;

  // -- sampling (spec section 5) ----------------------------------------------------------------------------------------
  // Latents are [frames, channels, h, w] F32; tokens are [frames * gridH * gridW, channels * 4] in (c, ky, kx) order. [nothing]
  virtual void patchify(const Tensor& tokens, const Tensor& latents) = 0;
  // x0 = x_t - sigma * flow; `flow` are head rows [tokens, 4 * channels] in (ky, kx, c) order; x_t and x0 are latents. [nothing]
  virtual void flowToX0(const Tensor& x0, const Tensor& xt, const Tensor& flow, float sigma) = 0;
  // (1 - s) a + s b of any equal shapes, all F32 or all of kvType(); in place. BF16 rounds both products and the sum, as the reference's sinks do. [nothing]
  virtual void mix(const Tensor& out, const Tensor& a, const Tensor& b, float s) = 0;
  // `out` F32 of any shape: counter-based Gaussian noise keyed by (seed, block, step): Philox4x32-10 and Box-Muller; same bits on every run. [nothing]
  virtual void gaussian(const Tensor& out, uint64_t seed, uint32_t block, uint32_t step) = 0;

  // -- images and volumes, channels-last ----------------------------------------------------------------------------------
  // Elements: conv `in` and `history` are ConvWeights::input; out and residual are F32, activationType() or convType(), each on
  // its own. The other operations of this group take and give any of these and convert.
  struct ConvArgs {
    Tensor out;      // [T_out, H_out, W_out, C_out]
    Tensor in;       // [T_in, H, W, C_in]; frames before it come from `history`
    Tensor history;  // [h, H, W, C_in], h <= kt - 1 older frames; if causal, what is missing before them is zero
    const ConvWeights* weights = nullptr;
    // Strides, RightBottom and `causal = false` are the Wan encoder's: what a video that starts from a picture needs (families-wan21, E.1). The
    // golden numbers of that encoder are held by test/wan_vae_encoder.h.
    int strideT = 1, strideHW = 1;
    // Spatial padding. Same: (k-1)/2 on every side. RightBottom: one row below and one column to the right.
    enum class Pad : uint8_t { Same, RightBottom } pad = Pad::Same;
    bool causal = true;           // T_out = ceil(T_in / strideT); false: valid convolution of history followed by in
    bool upsample2x = false;      // kh = kw = 3: nearest 2x of the input in H and W before the convolution; 4: transposed, of stride 2. Pad::Same
    Activation activation = Activation::None;
    Tensor residual;              // optional, shape of out, may alias out: out = activation(conv + b) + residual
    bool activationAfterResidual = false;  // out = activation(conv + b + residual)
  };
  // out [T_out, H_out, W_out, C_out] of `in` [T_in, H, W, C_in] behind `history` [h, H, W, C_in]. [scratch]
  virtual void conv(const ConvArgs& a) = 0;
  // x / max(||x||, 1e-12) * sqrt(C) * gamma over channels [.., C], gamma [C], then the activation. In place allowed. Bytes come by `code`. [nothing]
  virtual void channelNorm(const Tensor& out, const Tensor& in, const Tensor& gamma, Activation a, ByteCode code = {}) = 0;
  // [T, H, W, 2C] -> [2T, H, W, C]: first half of the channels becomes the even frames (spec 7.4). [nothing]
  virtual void splitTime(const Tensor& out, const Tensor& in, int factor) = 0;
  // Latents [T, C, H, W] F32 to channels-last (Last) or back (First), with out = in * mul[c] + add[c]; both [C] or absent. [nothing]
  virtual void permute(ChannelOrder order, const Tensor& out, const Tensor& in, const Tensor& mul, const Tensor& add) = 0;
  // [T, H, W, 3] in [-1, 1] (or [0, 1] with unit = true) -> packed RGB bytes, truncating like the reference. [nothing]
  virtual void toRgb8(const Tensor& out, const Tensor& in, bool unit) = 0;
  // rgb [T, H, W, 3] U8 -> out [T, H * W * 3 / 2] U8: planes Y, U, V per frame, BT.709 limited range; H and W even. [nothing]
  virtual void toI420(const Tensor& out, const Tensor& rgb) = 0;

  // Pieces of work so far; any thread may ask.
  int64_t refusedRecordings() const { return refusedRecordings_.load(std::memory_order_relaxed); }

 protected:
  explicit Backend(const BackendTraits& traits) : traits_(traits) {}
  void countRefusedRecording() { refusedRecordings_.fetch_add(1, std::memory_order_relaxed); }

 private:
  BackendTraits traits_;
  std::atomic<int64_t> refusedRecordings_{0};
};

// Sends what follows to a lane, until the end of the scope.
class LaneScope {
 public:
  LaneScope(Backend& backend, Lane lane) : backend_(backend), before_(backend.use(lane)) {}
  ~LaneScope() { backend_.use(before_); }
  LaneScope(const LaneScope&) = delete;

 private:
  Backend& backend_;
  Lane before_;
};

struct BackendOptions {
  Precision precision = Precision::FP32;
  int threads = 0;       // CPU: 0 means all cores
  int deviceIndex = 0;   // of that kind, from 0; there is one CPU
  AttentionArithmetic attention = AttentionArithmetic::Full;  // Int8: CUDA only
  KvStorage keyValues = KvStorage::Full;                      // what stores will be asked for; Int8: CPU only
  // CPU: force "portable" | "avx2" | "avx512". CUDA: a list of switches, see ops/cuda/features.h. Empty picks the best.
  std::string isa;
};

// Both throw Error{InvalidArgument} for arithmetic that the device does not have.
std::unique_ptr<Backend> makeCpuBackend(const BackendOptions& options);
// Throws Error{Unavailable} when the build has no CUDA or the machine no device, Error{InvalidArgument} for an index that none has.
std::unique_ptr<Backend> makeCudaBackend(const BackendOptions& options);
int cudaDevices();  // that there are; 0 where none can be used
// Throws Error{InvalidArgument} for arithmetic that no CUDA device has; needs none.
void requireCudaArithmetic(const BackendOptions& options);

}  // namespace longlive
