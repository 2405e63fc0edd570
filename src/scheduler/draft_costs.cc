#include "scheduler/draft_costs.h"

namespace tidemill {
namespace {

// Drafts beyond what was measured: none are asked for but those from outside.
double of_tokens(StepGrowth growth, int32_t tokens) {
  return growth[std::min(static_cast<size_t>(tokens), growth.size()) - 1];
}

}  // namespace

double growth_by_drafts(StepGrowth growth, int32_t num_decodes, int32_t num_drafts) {
  if (growth.empty() || num_decodes == 0) return 1.0;
  return of_tokens(growth, num_decodes + num_drafts) / of_tokens(growth, num_decodes);
}

int32_t affordable_drafts(StepGrowth growth, int32_t num_decodes, double most_growth,
                          double least_chance) {
  if (num_decodes == 0) return 0;
  for (auto drafts = static_cast<int32_t>(growth.size()) - num_decodes; drafts > 0; --drafts) {
    const double factor = growth_by_drafts(growth, num_decodes, drafts);
    const double lost_tokens = (factor - 1.0) * num_decodes;
    if (factor <= most_growth && lost_tokens <= least_chance * drafts) return drafts;
  }
  return 0;
}

}  // namespace tidemill
