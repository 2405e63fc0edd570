// What an operator may choose about the answers on LMI's routes, beside the formatter.
#pragma once

#include <cstdint>
#include <string>

namespace tidemill {

// Statuses of refusals on LMI's routes (serving-contract.md 2.8).
struct LmiErrorCodes {
  // 0: what the model's side refuses is 424, what the front refuses 400.
  int32_t bad_request = 0;
  int32_t not_ready = 503;  // loading, failed, draining
  int32_t queue_full = 503;
  int32_t timeout = 503;
  int32_t server_error = 500;
};

struct LmiOptions {
  std::string compat;       // "0.25.0": that version's bytes; empty: today's
  bool tgi_compat = false;  // names and framing that TGI's clients read
  // 0.25.0 puts so many token events into one HTTP chunk behind the first; 0 is 1.
  int64_t rolling_batch_buffer = 4;
  LmiErrorCodes codes;

  bool as_0_25() const { return compat == "0.25.0"; }
};

}  // namespace tidemill
