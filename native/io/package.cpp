#include "package.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>
#include <thread>

#include "longlive/error.h"
#include "sha256.h"

namespace longlive {

namespace {

constexpr size_t kMaxJson = 4u << 20;

[[noreturn]] void fail(const std::string& what) { throw Error(ErrorCode::InvalidPackage, what); }

std::string readText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text(kMaxJson + 1, '\0');
  if (!in.read(text.data(), static_cast<std::streamsize>(text.size())) && !in.eof()) fail(path + ": cannot be read");
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kMaxJson) fail(path + ": larger than the limit of " + std::to_string(kMaxJson) + " bytes for JSON");
  return text;
}

// Reads the members of one object and knows which ones were asked for.
class Fields {
 public:
  Fields(const Json& json, std::string path) : json_(json), path_(std::move(path)) {
    if (json.type() != Json::Type::Object) fail(path_ + " must be an object");
  }

  const Json* optional(const std::string& key) {
    known_.insert(key);
    return json_.find(key);
  }

  const Json& get(const std::string& key) {
    if (const Json* v = optional(key)) return *v;
    fail(name(key) + " is missing");
  }

  int64_t integer(const std::string& key, int64_t least, int64_t most) { return integer(get(key), name(key), least, most); }

  static int64_t integer(const Json& v, const std::string& name, int64_t least, int64_t most) {
    if (v.type() != Json::Type::Number || v.number() != std::floor(v.number()) || v.number() < static_cast<double>(least) ||
        v.number() > static_cast<double>(most)) {
      fail(name + " must be an integer between " + std::to_string(least) + " and " + std::to_string(most));
    }
    return v.integer();
  }

  double number(const std::string& key, double least, double most) {
    const Json& v = get(key);
    if (v.type() != Json::Type::Number || v.number() < least || v.number() > most) {
      fail(name(key) + " must be a number between " + brief(least) + " and " + brief(most));
    }
    return v.number();
  }

  bool boolean(const std::string& key) {
    const Json& v = get(key);
    if (v.type() != Json::Type::Bool) fail(name(key) + " must be true or false");
    return v.boolean();
  }

  std::string string(const std::string& key) {
    const Json& v = get(key);
    if (v.type() != Json::Type::String) fail(name(key) + " must be a string");
    return v.string();
  }

  const std::vector<Json>& array(const std::string& key, size_t least, size_t most) {
    const Json& v = get(key);
    if (v.type() != Json::Type::Array || v.array().size() < least || v.array().size() > most) {
      fail(name(key) + " must be an array of " + (least == most ? std::to_string(least) : std::to_string(least) + " to " + std::to_string(most)) + " values");
    }
    return v.array();
  }

  std::vector<int64_t> integers(const std::string& key, size_t count, size_t most, int64_t smallest, int64_t largest) {
    std::vector<int64_t> out;
    for (const Json& v : array(key, count, most)) out.push_back(integer(v, name(key), smallest, largest));
    return out;
  }

  std::vector<float> numbers(const std::string& key, size_t count) {
    std::vector<float> out;
    for (const Json& v : array(key, count, count)) {
      if (v.type() != Json::Type::Number || std::fabs(v.number()) > std::numeric_limits<float>::max()) fail(name(key) + " must hold numbers that are finite in single precision");
      out.push_back(static_cast<float>(v.number()));
    }
    return out;
  }

  std::string name(const std::string& key) const { return path_ + (path_.back() == ' ' ? "" : ".") + key; }

  void finish() const {
    for (const auto& [key, value] : json_.object()) if (!known_.count(key)) fail(name(key) + " is unknown");
  }

 private:
  static std::string brief(double v) {
    std::ostringstream s;
    s << v;
    return s.str();
  }

  const Json& json_;
  std::string path_;
  std::set<std::string> known_;
};

constexpr int64_t kMaxDim = 1 << 20;
constexpr const char* kConfig = "config.json: ";

DitConfig ditConfig(const Json& json) {
  Fields f(json, std::string(kConfig) + "dit");
  DitConfig c;
  c.dim = f.integer("dim", 12, kMaxDim), c.ffnDim = f.integer("ffnDim", 1, kMaxDim);
  c.numHeads = f.integer("numHeads", 1, 4096), c.numLayers = f.integer("numLayers", 1, 4096);
  c.freqDim = f.integer("freqDim", 2, kMaxDim);
  c.inDim = f.integer("inDim", 1, 4096), c.outDim = f.integer("outDim", 1, 4096);
  c.textDim = f.integer("textDim", 1, kMaxDim), c.textLen = f.integer("textLen", 1, 65536);
  const auto patch = f.integers("patchSize", 3, 3, 1, 2);
  std::copy(patch.begin(), patch.end(), c.patchSize.begin());
  c.eps = static_cast<float>(f.number("eps", 0, 1));
  c.ropeTheta = f.number("ropeTheta", 1, 1e9);
  c.ropeTableLength = f.integer("ropeTableLength", 1, kMaxDim);
  f.finish();
  if (c.dim % c.numHeads != 0 || c.headDim() % 2 != 0) fail(f.name("numHeads") + " must divide dim into heads of even size");
  if (c.headDim() < 6) fail(f.name("numHeads") + " leaves less than 6 values per head");
  if (c.freqDim % 2 != 0) fail(f.name("freqDim") + " must be even");
  if (c.patchSize != std::array<int64_t, 3>{1, 2, 2}) fail(f.name("patchSize") + " must be [1, 2, 2]");
  if (c.inDim != c.outDim) fail(f.name("outDim") + " must equal inDim");
  return c;
}

TextEncoderConfig textConfig(const Json& json) {
  Fields f(json, std::string(kConfig) + "textEncoder");
  TextEncoderConfig c;
  c.vocabSize = f.integer("vocabSize", 1, 1 << 22);
  c.dim = f.integer("dim", 1, kMaxDim), c.dimAttn = f.integer("dimAttn", 1, kMaxDim), c.dimFfn = f.integer("dimFfn", 1, kMaxDim);
  c.numHeads = f.integer("numHeads", 1, 4096), c.numLayers = f.integer("numLayers", 1, 4096);
  c.numBuckets = f.integer("numBuckets", 4, 4096), c.maxDistance = f.integer("maxDistance", 2, kMaxDim);
  c.eps = static_cast<float>(f.number("eps", 0, 1));
  f.finish();
  if (c.dimAttn % c.numHeads != 0) fail(f.name("numHeads") + " must divide dimAttn");
  if (c.numBuckets % 4 != 0 || c.maxDistance <= c.numBuckets / 4) fail(f.name("maxDistance") + " does not fit numBuckets");
  return c;
}

VaeConfig vaeConfig(const Json& json) {
  Fields f(json, std::string(kConfig) + "vae");
  VaeConfig c;
  c.dim = f.integer("dim", 1, 4096), c.zDim = f.integer("zDim", 1, 4096);
  c.dimMult = f.integers("dimMult", 4, 4, 1, 64);
  c.numResBlocks = f.integer("numResBlocks", 1, 16);
  c.temporalDownsample.clear();
  for (const Json& v : f.array("temporalDownsample", 3, 3)) {
    if (v.type() != Json::Type::Bool) fail(f.name("temporalDownsample") + " must hold true or false");
    c.temporalDownsample.push_back(v.boolean());
  }
  c.mean = f.numbers("mean", static_cast<size_t>(c.zDim)), c.std = f.numbers("std", static_cast<size_t>(c.zDim));
  if (f.optional("eightBit")) c.eightBit = f.boolean("eightBit");
  f.finish();
  if (c.temporalDownsample != std::vector<bool>{false, true, true}) fail(f.name("temporalDownsample") + " must be [false, true, true]");
  if (std::any_of(c.std.begin(), c.std.end(), [](float s) { return !(s > 0); })) fail(f.name("std") + " must be positive");
  return c;
}

SamplingConfig samplingConfig(const Json& json) {
  Fields f(json, std::string(kConfig) + "sampling");
  SamplingConfig c;
  c.framesPerBlock = f.integer("framesPerBlock", 1, 256);
  c.windowFrames = f.integer("windowFrames", -1, 4096);
  c.sinkFrames = f.integer("sinkFrames", 0, 4096);
  const std::string rope = f.string("rope");
  if (rope != "absolute" && rope != "relative") fail(f.name("rope") + " must be \"absolute\" or \"relative\"");
  c.rope = rope == "relative" ? RopeMode::Relative : RopeMode::Absolute;
  c.globalSink = f.boolean("globalSink");
  c.timestepShift = static_cast<float>(f.number("timestepShift", 1e-3, 1e3));
  c.denoisingSteps = f.integers("denoisingSteps", 1, 64, 1, 1000);
  c.warpDenoisingSteps = f.boolean("warpDenoisingSteps");
  c.contextNoise = static_cast<float>(f.number("contextNoise", 0, 1000));
  f.finish();
  const int64_t window = c.windowFrames < 0 ? 21 : c.windowFrames;
  if (c.windowFrames == 0) fail(f.name("windowFrames") + " must be -1 or positive");
  if (c.sinkFrames + c.framesPerBlock > window) fail(f.name("windowFrames") + " must hold the sink and one block");
  return c;
}

VideoConfig videoConfig(const Json& json) {
  Fields f(json, std::string(kConfig) + "video");
  VideoConfig c;
  c.width = f.integer("width", kLeastSide, kMostSide), c.height = f.integer("height", kLeastSide, kMostSide);
  c.fps = f.number("fps", 1, 240);
  f.finish();
  if (c.width % kSideStep || c.height % kSideStep) fail(f.name("width") + " and height must be multiples of 16");
  return c;
}

void checkSize(const std::string& path, int64_t bytes) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) fail(path + ": " + std::strerror(errno));
  if (!S_ISREG(info.st_mode)) fail(path + ": not a regular file");
  if (info.st_size != bytes) fail(path + ": has " + std::to_string(info.st_size) + " bytes, but the manifest says " + std::to_string(bytes));
}

// Reads in pieces that stay in the cache between the copy and the hash.
std::string hashOf(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(path + ": " + std::strerror(errno));
  Sha256 hash;
  std::vector<uint8_t> piece(256 << 10);
  ssize_t n = 0;
  while ((n = ::read(fd, piece.data(), piece.size())) > 0) hash.update(std::span(piece).first(static_cast<size_t>(n)));
  const int error = errno;
  ::close(fd);
  if (n < 0) fail(path + ": " + std::strerror(error));
  return hash.hex();
}

void compareHash(const std::string& path, const std::string& sha256) {
  if (hashOf(path) != sha256) fail(path + ": checksum differs from the manifest; the file is damaged or was changed");
}

bool validName(const std::string& s) {
  const auto lower = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !s.empty() && s.size() <= 64 && lower(s[0]) &&
         std::all_of(s.begin(), s.end(), [&](char c) { return lower(c) || c == '.' || c == '_' || c == '-'; });
}

}  // namespace

ModelConfig parseConfig(const Json& json) {
  Fields f(json, kConfig);
  f.integer("formatVersion", 1, 1);
  ModelConfig c;
  c.dit = ditConfig(f.get("dit"));
  c.textEncoder = textConfig(f.get("textEncoder"));
  c.vae = vaeConfig(f.get("vae"));
  if (const Json* tiny = f.optional("tinyVae"); tiny && !tiny->isNull()) {
    Fields t(*tiny, std::string(kConfig) + "tinyVae");
    TinyVaeConfig v;
    v.channels = t.integers("channels", 4, 4, 1, 4096);
    v.zDim = c.vae.zDim;
    if (t.optional("patch")) v.patch = t.integer("patch", 1, 2);
    if (t.optional("transposed")) v.transposed = t.boolean("transposed");
    t.finish();
    c.tinyVae = v;
  }
  c.sampling = samplingConfig(f.get("sampling"));
  c.video = videoConfig(f.get("video"));
  f.finish();
  if (c.textEncoder.dim != c.dit.textDim) fail(std::string(kConfig) + "dit.textDim must equal textEncoder.dim");
  if (c.vae.zDim != c.dit.inDim) fail(std::string(kConfig) + "vae.zDim must equal dit.inDim");
  return c;
}

Package Package::open(const std::string& directory) {
  Package p;
  p.directory_ = directory;
  p.readManifest();
  compareHash(p.path("config.json"), p.files_["config.json"].sha256);  // it is small, and everything follows from it
  p.configText_ = readText(p.path("config.json"));
  try {
    p.config_ = parseConfig(Json::parse(p.configText_));
  } catch (const Error& e) {
    const std::string what = e.what();
    fail(directory + ": " + (what.rfind(kConfig, 0) == 0 ? what : kConfig + what));
  }
  return p;
}

void Package::readManifest() {
  const std::string path = directory_ + "/manifest.json";
  const std::string text = readText(path);
  try {
    const Json json = Json::parse(text);
    Fields f(json, "manifest.json: ");
    f.integer("formatVersion", 1, 1);
    if (!validName(f.string("name"))) fail("manifest.json: name must match [a-z0-9][a-z0-9._-]{0,63}");
    for (const char* key : {"version", "title", "description", "license", "createdAt"}) f.string(key);
    f.optional("prompts");  // for people
    Fields files(f.get("files"), "manifest.json: files");
    for (const auto& [name, value] : f.get("files").object()) {
      if (name.empty() || name[0] == '.' || name.find('/') != std::string::npos || name.find('\\') != std::string::npos) {
        fail("manifest.json: file name \"" + name + "\" must be a plain name");
      }
      Fields entry(value, "manifest.json: files." + name);
      const int64_t bytes = entry.integer("bytes", 0, int64_t{1} << 50);
      files_[name] = {bytes, entry.string("sha256")};
      entry.finish();
      checkSize(directory_ + "/" + name, bytes);
    }
    f.finish();
  } catch (const Error& e) {
    const std::string what = e.what();
    fail(what.rfind(directory_, 0) == 0 ? what : path + ": " + what);
  }
}

std::string Package::path(const std::string& file) const {
  if (!files_.contains(file)) fail(directory_ + ": manifest.json does not list " + file);
  return directory_ + "/" + file;
}

Checksums::Checksums(const Package& package, int64_t hashLimit) {
  for (const auto& [name, file] : package.files()) {
    if (file.bytes <= hashLimit) files_.emplace_back(package.path(name), file.sha256);
  }
  const size_t workers = std::min<size_t>(files_.size(), std::max(1u, std::thread::hardware_concurrency()));
  for (size_t i = 0; i < workers; ++i) workers_.push_back(std::async(std::launch::async, [this] { compareSome(); }));
}

void Checksums::compareSome() {
  for (size_t i = next_++; i < files_.size(); i = next_++) compareHash(files_[i].first, files_[i].second);
}

void Checksums::wait() {
  for (std::future<void>& worker : workers_) {
    if (worker.valid()) worker.get();
  }
}

}  // namespace longlive
