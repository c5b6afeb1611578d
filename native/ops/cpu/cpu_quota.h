// The processor time that a container may use (cgroups, versions 1 and 2).
#pragma once

#include <optional>
#include <string>

namespace longlive::cpu {

// ceil(quota / period) of the tightest limit on this process's group or one above it; empty where there is none. `root` stands
// in front of every path that is read, for tests.
std::optional<int> processorQuota(const std::string& root = "");

}  // namespace longlive::cpu
