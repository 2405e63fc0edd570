// What drafts from their own texts may cost the sequences of a step (speculative=auto).
//
// Each sequence keeps an account, in steps without drafts. A step adds 3 % of one to it; what
// drafts make that step longer, its own and others', is taken off; a draft that was right is a step
// that it need not make, and is added. There are drafts as far as every account holds what they
// cost: whatever is guessed, none is ever more than 3 % later than it were without drafts, if steps
// take the time that is expected. What right guesses have brought is kept up to one step.
//
// Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

namespace tidemill {

// How many times as long as one of a single token a step of n decode tokens takes, drafts
// included: [n - 1], never falling, 1 first. Empty: not known.
using StepGrowth = std::span<const double>;

class DraftAccount {
 public:
  static constexpr double kAllowance = 0.03;
  static constexpr double kMost = 1.0;

  // How many times as long as without drafts the next step may take.
  double most_growth() const { return 1.0 + std::max(0.0, steps_ + kAllowance); }
  // A step that took so many times as long as without drafts.
  void pay(double growth) { steps_ = std::min(kMost, steps_ + kAllowance - (growth - 1.0)); }
  void earn(int32_t num_accepted_drafts) {
    steps_ = std::min(kMost, steps_ + static_cast<double>(num_accepted_drafts));
  }
  double steps() const { return steps_; }

 private:
  double steps_ = 0.0;
};

// Of a step in which so many sequences decode one token each.
double growth_by_drafts(StepGrowth growth, int32_t num_decodes, int32_t num_drafts);

// The most drafts with which such a step takes at most `most_growth` times as long, and that are
// worth it for all together where each is right with `least_chance`. 0: none.
int32_t affordable_drafts(StepGrowth growth, int32_t num_decodes, double most_growth,
                          double least_chance);

}  // namespace tidemill
