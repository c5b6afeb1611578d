#include "cpu_quota.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <utility>
#include <vector>

namespace longlive::cpu {

namespace {

// Where a hierarchy is mounted, and which of its groups the mount point shows.
struct Mount {
  std::string root, point;
};

struct Hierarchy {
  bool unified = false;  // version 2
  std::string group;     // this process's
  Mount mount;
};

bool lists(const std::string& commas, const std::string& word) { return ("," + commas + ",").find("," + word + ",") != std::string::npos; }

std::vector<std::string> words(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> out;
  for (std::string word; in >> word;) out.push_back(word);
  return out;
}

// proc/self/cgroup has lines "number:controllers:group"; version 2 is number 0 and names no controllers.
std::vector<Hierarchy> hierarchiesOf(const std::string& root) {
  std::vector<Hierarchy> out;
  std::ifstream in(root + "/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (controllers.empty() || lists(controllers, "cpu")) out.push_back({controllers.empty(), line.substr(second + 1), {}});
  }
  return out;
}

// proc/self/mountinfo: "id parent device root point options [tags] - type source options of the file system".
std::optional<Mount> mountOf(const std::string& root, bool unified) {
  std::ifstream in(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(in, line);) {
    const std::vector<std::string> w = words(line);
    const auto dash = std::find(w.begin(), w.end(), "-");
    if (w.size() < 6 || w.end() - dash < 4) continue;
    if (unified ? dash[1] == "cgroup2" : dash[1] == "cgroup" && lists(dash[3], "cpu")) return Mount{w[3], w[4]};
  }
  return std::nullopt;
}

std::optional<int> processorsFor(int64_t quota, int64_t period) {
  if (quota <= 0 || period <= 0) return std::nullopt;
  return static_cast<int>(std::clamp<int64_t>((quota + period - 1) / period, 1, 1 << 20));
}

std::optional<int64_t> number(const std::string& path) {
  std::ifstream in(path);
  int64_t n = 0;
  return in >> n ? std::optional(n) : std::nullopt;
}

std::optional<int> limitOf(const std::string& directory, bool unified) {
  if (!unified) return processorsFor(number(directory + "/cpu.cfs_quota_us").value_or(-1), number(directory + "/cpu.cfs_period_us").value_or(0));
  std::ifstream in(directory + "/cpu.max");  // "max 100000" or "quota period"
  int64_t quota = 0, period = 0;
  return in >> quota >> period ? processorsFor(quota, period) : std::nullopt;
}

std::optional<int> tighter(std::optional<int> a, std::optional<int> b) { return a && b ? std::min(a, b) : a ? a : b; }

}  // namespace

std::optional<int> processorQuota(const std::string& root) {
  std::optional<int> least;
  for (Hierarchy& h : hierarchiesOf(root)) {
    const std::optional<Mount> mount = mountOf(root, h.unified);
    if (!mount) continue;
    // A container sees its own group as the root of the mount, whatever the group is called outside.
    std::string below = h.group;
    if (mount->root != "/" && below.rfind(mount->root, 0) == 0) below.erase(0, mount->root.size());
    const std::string top = root + mount->point;
    for (std::string group = top + below;; group.erase(group.rfind('/'))) {
      least = tighter(least, limitOf(group, h.unified));
      if (group.size() <= top.size() || group.rfind('/') < top.size()) break;
    }
    least = tighter(least, limitOf(top, h.unified));
  }
  return least;
}

}  // namespace longlive::cpu
