// Who takes part in sections that go by attendance (worker_pool.h). Where a stranger keeps a core
// busy, the worker there is away for milliseconds at a time, and at every meeting all others wait
// for it: such a worker sits out as long as the others are faster without it, and is tried again
// from time to time.
//
// Pure: times come in. Owned by the pool; used by the thread of worker 0 alone. Worker 0 is the
// caller and never sits out: where its core is the one that is taken, it changes places with a
// worker that sits out in its stead.
//
// A worker may also be waited for because it has more to do. So before it is sent away the system
// is asked, for a while, how long the workers waited for their cores.
#pragma once

#include <optional>
#include <vector>

namespace tidemill {

class Attendance {
 public:
  explicit Attendance(int num_workers);

  // Workers of the next section, by lane; the first is worker 0.
  const std::vector<int>& present() const { return present_; }
  // Which of the pool's cores worker `index` stays on: a permutation of 0 .. num_workers - 1.
  int core_of(int index) const { return cores_[static_cast<size_t>(index)]; }

  struct Change {
    int core = 0;  // where nobody is in such sections from now on or, if `back`, somebody again
    double share_lost = 0.0;     // of the time, in which the others slept until it came
    double pause_seconds = 0.0;  // until it is tried again
    bool back = false;
  };

  // Whether the workers' waiting for their cores has to be measured in the next section.
  bool must_measure_waits() const { return on_trial_ || suspicious_; }

  struct OfLane {
    double seconds_lost = 0.0;    // in which others slept until this lane came to a meeting
    double seconds_waited = 0.0;  // for a core, while it had work; 0 if not measured
  };

  // A section of `present()` that ran from `begin` to `end`, in seconds of any clock.
  std::optional<Change> observe(double begin, double end, const std::vector<OfLane>& lanes);

 private:
  std::optional<Change> judge(double now);
  Change dismiss(size_t lane, double share, double now);
  Change readmit();
  void forget();

  std::vector<int> present_;
  std::vector<int> cores_;
  std::vector<int> out_;  // workers, in the order in which they left
  // What was seen since the last judgement.
  double seconds_ = 0.0;
  int sections_ = 0;
  std::vector<OfLane> lanes_;
  bool suspicious_ = false;  // since the last judgement waits have been measured
  // Of those that sit out.
  double retry_at_ = 0.0;
  double pause_ = 0.0;
  bool on_trial_ = false;
};

}  // namespace tidemill
