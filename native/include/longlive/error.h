// The one exception type that crosses from the core to its users: a stable code, and a sentence that says what to do.
#pragma once

#include <stdexcept>
#include <string>

namespace longlive {

enum class ErrorCode {
  InvalidArgument,   // the caller's request makes no sense
  InvalidPackage,    // a file of the model package is malformed, truncated, hostile or does not match its config
  Unavailable,       // no such device in this build or on this machine
  OutOfMemory,       // the device cannot hold what was asked for
  DeviceFault,       // the device failed; the session is lost, the device must be considered unhealthy
  Cancelled,
};

constexpr const char* nameOf(ErrorCode c) {
  switch (c) {
    case ErrorCode::InvalidArgument: return "INVALID_ARGUMENT";
    case ErrorCode::InvalidPackage: return "INVALID_PACKAGE";
    case ErrorCode::Unavailable: return "UNAVAILABLE";
    case ErrorCode::OutOfMemory: return "OUT_OF_MEMORY";
    case ErrorCode::DeviceFault: return "DEVICE_FAULT";
    case ErrorCode::Cancelled: return "CANCELLED";
  }
  return "UNKNOWN";
}

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace longlive
