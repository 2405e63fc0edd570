#include "kernels/quantized_rows.h"

#include "base/round_up.h"

namespace tidemill {

int64_t num_scales(const QuantizedForm& form, int64_t k) {
  const int64_t padded = round_up(k, kQuantizedPadding);
  return form.group == 0 ? 1 : (padded + form.group - 1) / form.group;
}

int64_t quantized_run_bytes(const QuantizedForm& form, int64_t k) {
  const auto scales = num_scales(form, k) * static_cast<int64_t>(sizeof(GroupScale));
  return round_up(round_up(k, kQuantizedPadding) + scales, 64);
}

}  // namespace tidemill
