// A model package directory (docs/model-package.md): manifest and config, read strictly.
#pragma once

#include <string>
#include <vector>

#include "json.h"
#include "model/config.h"

namespace longlive {

// Checks types, ranges, and that the parts fit each other; refuses unknown and missing keys. Throws Error{InvalidPackage}
// naming the key, e.g. "config.json: sampling.sinkFrames must be ...".
ModelConfig parseConfig(const Json& json);

class Package {
 public:
  // Reads manifest.json and config.json, and checks size and SHA-256 of every listed file (the hash of files up to
  // `hashLimit` bytes). Throws Error{InvalidPackage}.
  static Package open(const std::string& directory, int64_t hashLimit = int64_t{1} << 30);

  const ModelConfig& config() const { return config_; }
  const std::string& configText() const { return configText_; }
  // Path of a file that the manifest lists; throws if it does not.
  std::string path(const std::string& file) const;

 private:
  void readManifest(int64_t hashLimit);

  std::string directory_, configText_;
  std::vector<std::string> files_;
  ModelConfig config_;
};

}  // namespace longlive
