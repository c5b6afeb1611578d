// A model package directory (docs/model-package.md): manifest and config, read strictly.
#pragma once

#include <atomic>
#include <future>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "json.h"
#include "model/config.h"

namespace longlive {

// Checks types, ranges, and that the parts fit each other; refuses unknown and missing keys. Throws Error{InvalidPackage}
// naming the key, e.g. "config.json: sampling.sinkFrames must be ...".
ModelConfig parseConfig(const Json& json);

// Files whose SHA-256 is compared at every load. Of larger ones only the size is: `longlive models verify`, and whoever
// downloaded them, have read them whole.
constexpr int64_t kHashLimit = int64_t{1} << 30;

class Package {
 public:
  struct File {
    int64_t bytes = 0;
    std::string sha256;
  };

  // Reads manifest.json and config.json and checks the size of every listed file. Throws Error{InvalidPackage}.
  static Package open(const std::string& directory);

  const ModelConfig& config() const { return config_; }
  const std::string& configText() const { return configText_; }
  // Path of a file that the manifest lists; throws if it does not.
  std::string path(const std::string& file) const;
  const std::string& directory() const { return directory_; }
  const std::map<std::string, File>& files() const { return files_; }

 private:
  void readManifest();

  std::string directory_, configText_;
  std::map<std::string, File> files_;
  ModelConfig config_;
};

// Compares the checksums of a package's files on threads of its own, while somebody else reads the same files.
class Checksums {
 public:
  explicit Checksums(const Package& package, int64_t hashLimit = kHashLimit);
  // Waits for all of them. Throws Error{InvalidPackage} naming a file that differs.
  void wait();

 private:
  void compareSome();  // until no file is left

  std::vector<std::pair<std::string, std::string>> files_;  // path, expected SHA-256
  std::atomic<size_t> next_{0};
  std::vector<std::future<void>> workers_;  // last: they end before what they use
};

}  // namespace longlive
