// What bench_gpu was asked for, and what it found: printed line by line, and kept as JSON.
#pragma once

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "longlive/error.h"
#include "longlive/names.h"
#include "ops/ops.h"

namespace longlive::bench {

struct Options {
  std::string device = "cuda", only, json;
  BackendOptions backend;
  int64_t blocks = 40;
  bool small = false, relative = false;
};

inline double now() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline double mean(const std::vector<double>& v) { return std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(v.size()); }

inline double quantile(std::vector<double> v, double q) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : v[std::min(v.size() - 1, static_cast<size_t>(q * static_cast<double>(v.size())))];
}

inline std::string quoted(const std::string& s) {
  std::string out = "\"";
  for (char c : s) {
    if (c == '"' || c == '\\') out += '\\';
    if (c >= ' ') out += c;
  }
  return out + "\"";
}

inline std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", x);
  return std::isfinite(x) ? text : "null";
}

class Results {
 public:
  Results(const Options& options, DeviceInfo device) : options_(options), device_(std::move(device)) {}

  void kernel(const std::string& name, double ms, double operations, double bytes) {
    std::printf("  %-46s %9.4f ms %9.1f TFLOP/s %9.1f GB/s\n", name.c_str(), ms, operations / ms * 1e-9, bytes / ms * 1e-6);
    put(kernels_, name, ",\"ms\":" + number(ms) + ",\"operations\":" + number(operations) + ",\"bytes\":" + number(bytes) + "}");
  }
  void value(const std::string& name, double x, const char* unit) {
    std::printf("  %-62s %10.5g %s\n", name.c_str(), x, unit);
    const std::string result = std::isfinite(x) ? ",\"value\":" + number(x) : ",\"error\":\"not a number\"";
    put(values_, name, result + ",\"unit\":" + quoted(unit) + "}");
  }
  // Written beside and moved into place after every entry: what was measured stays if a time limit ends the run.
  void write() const {
    const Options& o = options_;
    const DeviceInfo& d = device_;
    if (o.json.empty()) return;
    const std::string beside = o.json + ".part";
    std::FILE* f = std::fopen(beside.c_str(), "w");
    if (!f) throw Error(ErrorCode::InvalidArgument, "cannot write " + beside);
    std::fprintf(f, "{\"device\":%s,\"isa\":%s,\"precision\":\"%s\",\"attention\":\"%s\",\"rope\":\"%s\",\"small\":%s,\n\"kernels\":[%s],\n\"values\":[%s]}\n",
                 quoted(d.name).c_str(), quoted(d.isa).c_str(), nameOf(o.backend.precision), nameOf(o.backend.attention),
                 o.relative ? "relative" : "absolute", o.small ? "true" : "false", joined(kernels_).c_str(), joined(values_).c_str());
    if (std::fclose(f) != 0 || std::rename(beside.c_str(), o.json.c_str()) != 0) throw Error(ErrorCode::InvalidArgument, "cannot write " + o.json);
  }

 private:
  struct Entry { std::string name, json; };

  // What is measured again takes the place of what was.
  void put(std::vector<Entry>& list, const std::string& name, const std::string& rest) {
    auto at = std::find_if(list.begin(), list.end(), [&](const Entry& e) { return e.name == name; });
    if (at == list.end()) at = list.insert(at, {name, ""});
    at->json = "{\"name\":" + quoted(name) + rest;
    write();
  }
  static std::string joined(const std::vector<Entry>& list) {
    std::string all;
    for (const Entry& e : list) all += (all.empty() ? "" : ",\n") + e.json;
    return all;
  }

  const Options& options_;
  DeviceInfo device_;
  std::vector<Entry> kernels_, values_;
};

}  // namespace longlive::bench
