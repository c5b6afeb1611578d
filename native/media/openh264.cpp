#include "media/openh264.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "longlive/error.h"

#if __has_include(<wels/codec_api.h>)
#include <wels/codec_api.h>
#define LONGLIVE_CHECK_OPENH264 1
#endif

namespace longlive {

namespace {

// The ABI of libopenh264.so.7 (2.3 to 2.5) and .so.8 (2.6). The latter appended fields to these structures; what it appended to
// Parameters and Picture is zero here, and a layer's size goes by the version.
constexpr int kI420 = 23, kOutOfBuffer = 3;
constexpr int kOptionTraceLevel = 25;
constexpr int kRateControlOff = -1, kBaseline = 66, kQuiet = 0;
constexpr int kSpatialLayers = 4, kLayersOfFrame = 128, kSlices = 35;
constexpr uint8_t kVideoLayer = 1;

struct SpatialLayer {
  int width, height;
  float fps;
  int bitrate, maxBitrate, profile, level, quantizer;
  struct {
    int mode;
    unsigned count, macroblocks[kSlices], bytes;
  } slices;
  bool signalType;
  uint8_t format;
  bool fullRange, colours;
  uint8_t primaries, transfer, matrix;
  bool aspectPresent;
  int aspect;
  unsigned short aspectWidth, aspectHeight;
};

struct Parameters {
  int usage, width, height, bitrate, rateControl;
  float fps;
  int temporalLayers, spatialLayers;
  SpatialLayer layers[kSpatialLayers];
  int complexity;
  unsigned intraPeriod;
  int references, parameterSetStrategy;
  bool prefixNal, ssei, simulcast;
  int padding, cabac;
  bool frameSkip;
  int maxBitrate, maxQuantizer, minQuantizer;
  unsigned maxNalBytes;
  bool longTerm;
  int longTermCount;
  unsigned longTermPeriod;
  unsigned short threads;
  bool loadBalancing;
  int deblockingOff, deblockingAlpha, deblockingBeta;
  bool denoise, backgroundDetection, adaptiveQuantizer, cropping, sceneChange, losslessLink, fixOvershoot;
  int idrRatio;
  uint8_t later[64];  // of versions to come
};

struct Layer {
  uint8_t temporal, spatial, quality;
  int frameType;
  uint8_t type;
  int sequence, nals;
  int* nalBytes;
  uint8_t* bytes;
};

struct FrameInfo {
  int layers;
  alignas(8) uint8_t layer[kLayersOfFrame * (sizeof(Layer) + 16) + 64];

  // Layers of 2.6 have three floats more.
  Layer at(int i, int major, int minor) const {
    Layer l;
    const size_t size = sizeof(Layer) + (major > 2 || minor >= 6 ? 16 : 0);
    std::memcpy(&l, layer + static_cast<size_t>(i) * size, sizeof l);
    return l;
  }
};

struct Picture {
  int format, stride[4];
  const uint8_t* data[4];
  int width, height;
  long long milliseconds;
  uint8_t later[64];
};

struct Version {
  unsigned major, minor, revision, reserved;
};

struct Methods;
struct Encoder {
  const Methods* methods;
};
struct Methods {
  int (*initialize)(Encoder*, const void*);
  int (*initializeExtended)(Encoder*, const Parameters*);
  int (*defaults)(Encoder*, Parameters*);
  int (*uninitialize)(Encoder*);
  int (*encode)(Encoder*, const Picture*, FrameInfo*);
  int (*parameterSets)(Encoder*, FrameInfo*);
  int (*forceIntra)(Encoder*, bool, int);
  int (*setOption)(Encoder*, int, void*);
};

#ifdef LONGLIVE_CHECK_OPENH264  // wherever the header is at hand, the compiler compares
static_assert(kI420 == videoFormatI420 && kOutOfBuffer == cmMallocMemeError && kOptionTraceLevel == ENCODER_OPTION_TRACE_LEVEL && kBaseline == PRO_BASELINE);
static_assert(kRateControlOff == RC_OFF_MODE && kQuiet == WELS_LOG_QUIET && kVideoLayer == VIDEO_CODING_LAYER);
static_assert(kSpatialLayers == MAX_SPATIAL_LAYER_NUM && kLayersOfFrame == MAX_LAYER_NUM_OF_FRAME && kSlices == MAX_SLICES_NUM_TMP);
static_assert(sizeof(SpatialLayer) == sizeof(SSpatialLayerConfig) && offsetof(SpatialLayer, quantizer) == offsetof(SSpatialLayerConfig, iDLayerQp));
static_assert(offsetof(Parameters, complexity) == offsetof(SEncParamExt, iComplexityMode) && offsetof(Parameters, threads) == offsetof(SEncParamExt, iMultipleThreadIdc));
static_assert(offsetof(Parameters, frameSkip) == offsetof(SEncParamExt, bEnableFrameSkip) && offsetof(Parameters, idrRatio) == offsetof(SEncParamExt, iIdrBitrateRatio));
static_assert(offsetof(Parameters, sceneChange) == offsetof(SEncParamExt, bEnableSceneChangeDetect) && sizeof(Parameters) > sizeof(SEncParamExt));
static_assert(offsetof(FrameInfo, layer) == offsetof(SFrameBSInfo, sLayerInfo) && sizeof(FrameInfo) > sizeof(SFrameBSInfo));
static_assert(offsetof(Layer, bytes) == offsetof(SLayerBSInfo, pBsBuf) && offsetof(Layer, nals) == offsetof(SLayerBSInfo, iNalCount));
static_assert(offsetof(Picture, milliseconds) == offsetof(SSourcePicture, uiTimeStamp) && sizeof(Picture) > sizeof(SSourcePicture));
static_assert(sizeof(Version) == sizeof(OpenH264Version));
#endif

void* openLibrary() {
  const char* chosen = std::getenv("LONGLIVE_OPENH264");
  if (chosen && std::strcmp(chosen, "off") == 0) return nullptr;
  for (const char* candidate : {chosen, "libopenh264.so.7", "libopenh264.so.8"}) {
    if (!candidate || !*candidate) continue;
    if (void* library = dlopen(candidate, RTLD_NOW | RTLD_LOCAL)) return library;
  }
  return nullptr;
}

[[noreturn]] void unavailable(const std::string& why) {
  throw Error(ErrorCode::Unavailable, "the encoder openh264 " + why + "; install libopenh264 2.3 to 2.6 (Debian 12, Ubuntu 24.04: libopenh264-7)");
}

[[noreturn]] void fail(const std::string& doing) { throw Error(ErrorCode::Internal, "OpenH264 failed " + doing); }

}  // namespace

struct OpenH264::Functions {
  int (*create)(Encoder**);
  void (*destroy)(Encoder*);
  void (*version)(Version*);
  Version is{};

  bool load(void* library) {
    const auto find = [library](auto& f, const char* name) {
      f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(dlsym(library, name));
      return f != nullptr;
    };
    return find(create, "WelsCreateSVCEncoder") && find(destroy, "WelsDestroySVCEncoder") && find(version, "WelsGetCodecVersionEx");
  }

  bool known() const { return is.major == 2 && is.minor >= 3 && is.minor <= 6; }
};

OpenH264::OpenH264() : f_(std::make_unique<Functions>()) {}
OpenH264::~OpenH264() = default;

std::shared_ptr<const OpenH264> OpenH264::open() {
  void* library = openLibrary();
  if (!library) unavailable("is not installed");
  std::shared_ptr<OpenH264> opened(new OpenH264);
  // The library stays loaded: encoders may be at work until the process ends.
  if (!opened->f_->load(library)) unavailable("lacks functions of its interface");
  Version& v = opened->f_->is;
  opened->f_->version(&v);
  opened->version_ = std::to_string(v.major) + "." + std::to_string(v.minor) + "." + std::to_string(v.revision);
  if (!opened->f_->known()) unavailable("is installed in version " + opened->version_ + ", which is not supported");
  return opened;
}

namespace {

Parameters parametersOf(Encoder* encoder, const PictureFormat& format) {
  Parameters p{};
  if (encoder->methods->defaults(encoder, &p) != 0) fail("to say its defaults");
  p.width = format.width, p.height = format.height, p.fps = static_cast<float>(std::clamp(format.fps, 1.0, 30.0));  // for levels only
  p.rateControl = kRateControlOff;
  p.bitrate = p.maxBitrate = 0;
  p.temporalLayers = p.spatialLayers = 1;
  p.complexity = 1;  // medium
  p.intraPeriod = 0, p.references = 1, p.parameterSetStrategy = 0;
  p.cabac = 0, p.threads = 1;
  p.minQuantizer = 0, p.maxQuantizer = 51;
  // What picks pictures or macroblocks by itself: a skipped picture, an IDR picture in the middle, another quantizer.
  p.frameSkip = p.sceneChange = p.adaptiveQuantizer = p.backgroundDetection = p.denoise = p.longTerm = false;
  p.cropping = true;
  SpatialLayer& layer = p.layers[0];
  layer.width = p.width, layer.height = p.height, layer.fps = p.fps;
  layer.bitrate = layer.maxBitrate = 0;
  layer.profile = kBaseline, layer.quantizer = format.quantizer;
  layer.slices.mode = 0;
  return p;
}

std::span<const uint8_t> withoutStartCode(std::span<const uint8_t> nal) {
  size_t zeros = 0;
  while (zeros < nal.size() && nal[zeros] == 0) zeros++;
  if (zeros < 2 || zeros + 1 >= nal.size() || nal[zeros] != 1) fail("to write a NAL unit");
  return nal.subspan(zeros + 1);
}

void add(EncodedPictures& out, EncodedPictures::Sample& sample, std::span<const uint8_t> nal) {
  const int type = nal[0] & 0x1f;
  if (type == 7) out.sps.assign(nal.begin(), nal.end());
  if (type == 8) out.pps.assign(nal.begin(), nal.end());
  if (type != 1 && type != 5) return;
  sample.key = type == 5;
  for (int shift = 24; shift >= 0; shift -= 8) sample.bytes.push_back(static_cast<uint8_t>(nal.size() >> shift));
  sample.bytes.insert(sample.bytes.end(), nal.begin(), nal.end());
}

}  // namespace

EncodedPictures OpenH264::encode(PictureFormat format, std::span<const uint8_t> frames) const {
  for (;; format.quantizer = std::min(51, format.quantizer + 6)) {
    if (std::optional<EncodedPictures> made = tryEncode(format, frames)) return *std::move(made);
    if (format.quantizer >= 51) fail("at a picture that does not fit its buffers");
  }
}

std::optional<EncodedPictures> OpenH264::tryEncode(const PictureFormat& format, std::span<const uint8_t> frames) const {
  const size_t luma = static_cast<size_t>(format.width) * static_cast<size_t>(format.height), chroma = luma / 4, bytes = luma + 2 * chroma;
  if (bytes == 0 || frames.empty() || frames.size() % bytes != 0) throw Error(ErrorCode::InvalidArgument, "the frames are not whole pictures");
  Encoder* raw = nullptr;
  if (f_->create(&raw) != 0 || !raw) fail("to make an encoder");
  const std::unique_ptr<Encoder, void (*)(Encoder*)> encoder(raw, f_->destroy);
  int quiet = kQuiet;
  raw->methods->setOption(raw, kOptionTraceLevel, &quiet);
  const Parameters parameters = parametersOf(raw, format);
  if (raw->methods->initializeExtended(raw, &parameters) != 0) fail("to begin: it does not take this size");
  const auto info = std::make_unique<FrameInfo>();
  EncodedPictures out;
  for (size_t at = 0; at < frames.size(); at += bytes) {
    const uint8_t* y = frames.data() + at;
    Picture picture{};
    picture.format = kI420;
    picture.width = format.width, picture.height = format.height;
    picture.stride[0] = format.width, picture.stride[1] = picture.stride[2] = format.width / 2;
    picture.data[0] = y, picture.data[1] = y + luma, picture.data[2] = y + luma + chroma;
    picture.milliseconds = static_cast<long long>(1000.0 * static_cast<double>(out.samples.size()) / format.fps);
    *info = {};
    const int code = raw->methods->encode(raw, &picture, info.get());
    if (code == kOutOfBuffer) return std::nullopt;
    if (code != 0) fail("at picture " + std::to_string(out.samples.size()) + " with code " + std::to_string(code));
    EncodedPictures::Sample sample{{}, false};
    for (int l = 0; l < info->layers; l++) {
      const Layer layer = info->at(l, static_cast<int>(f_->is.major), static_cast<int>(f_->is.minor));
      const uint8_t* from = layer.bytes;
      for (int n = 0; n < layer.nals; from += layer.nalBytes[n++]) add(out, sample, withoutStartCode({from, static_cast<size_t>(layer.nalBytes[n])}));
    }
    if (sample.bytes.empty()) fail("at a picture: it skipped it");
    out.samples.push_back(std::move(sample));
  }
  raw->methods->uninitialize(raw);
  return out;
}

}  // namespace longlive
