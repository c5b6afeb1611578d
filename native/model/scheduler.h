// Flow-matching schedule and the list of denoising steps: spec section 5.1, all in float32 as the reference stores it.
//
//   s_i = 1 - i / 1000;  sigma_i = shift s_i / (1 + (shift - 1) s_i);  timestep_i = 1000 sigma_i,   i = 0 .. 999
//
// A warped step list picks timestep[1000 - step] from the table with 0 appended: 1000 750 500 250 -> 1000 937.5 833.3 625.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace longlive {

class Scheduler {
 public:
  explicit Scheduler(float shift);

  const std::vector<float>& timesteps() const { return timesteps_; }

  // Timesteps to run. Throws Error{InvalidArgument} for a step outside 0 .. 1000.
  std::vector<float> denoisingTimesteps(std::span<const int64_t> steps, bool warp) const;

  // Sigma of the nearest table entry (the first of equals).
  float sigmaAt(float timestep) const;

 private:
  std::vector<float> sigmas_, timesteps_;
};

}  // namespace longlive
