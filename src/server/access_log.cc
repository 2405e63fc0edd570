#include "server/access_log.h"

#include <vector>

#include "base/log.h"

namespace tidemill {
namespace {

using LogFields = std::vector<LogField>;

LogFields common_fields(const AccessLine& line) {
  LogFields fields{{"id", line.request_id}};
  if (!line.caller.trace_id.empty()) fields.push_back({"trace", line.caller.trace_id});
  if (!line.caller.key_name.empty()) fields.push_back({"key", line.caller.key_name});
  fields.push_back({"route", line.route});
  if (line.status != 0) fields.push_back({"status", line.status});
  fields.push_back({"outcome", line.outcome});
  return fields;
}

// Of moments that have not come nothing is said.
void add_time(LogFields& fields, std::string_view name, RequestTimes::Time from,
              RequestTimes::Time to) {
  if (from == RequestTimes::Time{} || to == RequestTimes::Time{}) return;
  fields.push_back({name, std::chrono::duration<double, std::milli>(to - from).count()});
}

void write(LogFields fields, const AccessLine& line) {
  fields.push_back({"total_ms", line.total.count()});
  log_fields(LogLevel::kInfo, "request", fields);
}

}  // namespace

void log_access(const AccessLine& line) {
  if (logs(LogLevel::kInfo)) write(common_fields(line), line);
}

void log_access(const AccessLine& line, const GenerationLine& generation) {
  if (!logs(LogLevel::kInfo)) return;
  LogFields fields = common_fields(line);
  if (!generation.model.empty()) fields.push_back({"model", generation.model});
  fields.push_back({"prompt_tokens", generation.prompt_tokens});
  fields.push_back({"cached_tokens", generation.cached_tokens});
  fields.push_back({"output_tokens", generation.output_tokens});
  fields.push_back({"choices", generation.choices});
  const RequestTimes& times = generation.times;
  add_time(fields, "queue_ms", times.arrival, times.first_scheduled);
  add_time(fields, "first_token_ms", times.arrival, times.first_token);
  write(std::move(fields), line);
}

}  // namespace tidemill
