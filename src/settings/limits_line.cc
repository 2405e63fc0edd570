// What the start-up log says of limits: a loop over their rows.
#include <algorithm>

#include "base/check.h"
#include "settings/options.h"

namespace tidemill {
namespace {

// In the order of a request's way through the server.
constexpr std::string_view kLimits[] = {
    "max_connections",
    "reserved_connections",
    "keep_alive_timeout",
    "max_pipelined_requests",
    "max_request_line_size",
    "max_header_size",
    "max_header_count",
    "max_header_field_size",
    "header_timeout",
    "max_request_size",
    "max_body_chunks",
    "max_chunk_extension_size",
    "max_trailer_size",
    "body_timeout",
    "body_grace_time",
    "body_min_rate",
    "max_json_depth",
    "max_json_values",
    "max_inputs",
    "max_prompt_bytes_per_token",
    "max_choices",
    "max_stop_sequences",
    "max_stop_sequence_size",
    "max_stop_token_ids",
    "max_logit_bias",
    "max_template_steps",
    "max_template_depth",
    "max_template_output_size",
    "job_queue_size",
    "max_rolling_batch_size",
    "max_rolling_batch_prefill_tokens",
    "max_preemptions",
    "queue_timeout",
    "request_timeout",
    "step_watchdog",
    "predict_timeout",
    "stalled_step_exit",
    "sse_ping_interval",
    "stream_pause_size",
    "stream_resume_size",
    "stall_timeout",
    "model_loading_timeout",
    "drain_time",
};

}  // namespace

std::string limits_line(const Settings& settings) {
  Settings shown = settings;  // slots are for writing, too
  std::string line = "limits:";
  for (const std::string_view name : kLimits) {
    const auto options = all_options();
    const auto row =
        std::ranges::find_if(options, [&](const Option& option) { return option.name == name; });
    CHECK(row != options.end() && row->slot != nullptr, "{} is no setting", name);
    line += format("{} {} {}", line.ends_with(':') ? "" : ",", name, show(row->slot(shown)));
  }
  return line;
}

}  // namespace tidemill
