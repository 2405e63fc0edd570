// What drafts cost the sequences of a step, and what they are worth.
//
// Those from a sequence's own text (speculative=auto): each sequence keeps an account, in steps
// without drafts. A step adds 3 % of one to it; what drafts make that step longer, its own and
// others', is taken off; a draft that was right is a step that it need not make, and is added.
// There are drafts as far as every account holds what they cost: whatever is guessed, none is ever
// more than 3 % later than it were without drafts, if steps take the time that is expected. What
// right guesses have brought is kept up to one step.
//
// Those of a draft model take time of their own, right or wrong: each sequence has so many that its
// tokens come fastest, by how often they were right lately, and none where that gains nothing.
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

// How often a draft model is right about a sequence. Where drafts have turned out to gain nothing
// there are none for a while, and then it shows again what it can: each time the while is twice as
// long, until it does well.
class DraftChance {
 public:
  static constexpr double kAtFirst = 0.7;
  static constexpr int32_t kLeastRest = 32;  // steps
  static constexpr int32_t kMostRest = 1024;

  // That a draft is right behind others that were.
  double value() const { return chance_; }
  // Once a step in which there may be drafts.
  bool rests() {
    if (left_ == 0) return false;
    --left_;
    return true;
  }
  // Of the drafts of a step: behind the first wrong one nothing is known.
  void judge(int32_t num_right, int32_t num_drafts);
  // They gain nothing, after what it has shown.
  void give_up();

 private:
  double chance_ = kAtFirst;
  int32_t num_judged_ = 0;  // since it began, or began again: the first ones count for more
  int32_t left_ = 0;
  int32_t next_rest_ = kLeastRest;
};

// Of a step in which so many sequences decode one token each.
double growth_by_drafts(StepGrowth growth, int32_t num_decodes, int32_t num_drafts);

// Of a draft model: with how many drafts for each of so many sequences tokens come fastest, and how
// many times as fast as without.
struct DraftSpeed {
  int32_t drafts = 0;
  double speed = 1.0;
};
// `pass`: what the draft model takes for a token of each of them, in steps without drafts;
// `chance`: that a draft is right behind others that were. At most `most`; none where they would
// gain less than 5 %. Without a StepGrowth each token more in a step is taken for a sixteenth of
// one.
DraftSpeed fastest_drafts(StepGrowth growth, int32_t num_decodes, double pass, double chance,
                          int32_t most);

// What it takes until it has seen so many tokens of a sequence, in steps of one token.
double catching_up(StepGrowth growth, double pass, int32_t num_tokens);

// The most drafts with which such a step takes at most `most_growth` times as long, and that are
// worth it for all together where each is right with `least_chance`. 0: none.
int32_t affordable_drafts(StepGrowth growth, int32_t num_decodes, double most_growth,
                          double least_chance);

}  // namespace tidemill
