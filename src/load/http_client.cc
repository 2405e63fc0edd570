#include "load/http_client.h"

#include <curl/curl.h>

#include <cstring>
#include <stdexcept>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/check.h"

namespace tidemill {
namespace {

constexpr long kConnectTimeoutMs = 30'000;
constexpr long kMaxIdleConnections = 4096;

// One request and its answer; libcurl knows it by its address.
struct Exchange {
  CURL* easy = nullptr;
  std::string body;
  HttpListener listener;
  bool left = false;  // the listener wanted no more

  HttpHeadFacts head() const {
    long status = 0;
    const char* type = nullptr;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(easy, CURLINFO_CONTENT_TYPE, &type);
    return {.status = static_cast<int>(status), .content_type = type == nullptr ? "" : type};
  }
};

size_t take_bytes(char* data, size_t size, size_t count, void* exchange) {
  auto& self = *static_cast<Exchange*>(exchange);
  const size_t bytes = size * count;
  if (self.listener.on_bytes(self.head(), std::string_view(data, bytes))) return bytes;
  self.left = true;
  return bytes + 1;  // another number than was given ends the transfer
}

// Sentences without times and ports of our own, so that equal failures count as one.
std::string failure_of(CURL* easy, CURLcode code, int64_t timeout_ms) {
  switch (code) {
    case CURLE_OK:
      return "";
    case CURLE_COULDNT_CONNECT: {
      long reason = 0;
      curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &reason);
      // Without a reason there was not even a socket.
      return format("cannot connect ({}); is a server listening at that address?",
                    reason == 0 ? "no descriptor left: see ulimit -n"
                                : std::strerror(static_cast<int>(reason)));
    }
    case CURLE_COULDNT_RESOLVE_HOST:
      return "the name of the host is not known";
    case CURLE_OPERATION_TIMEDOUT:
      return format("no whole answer within {} s (answer_timeout)",
                    static_cast<double>(timeout_ms) / 1000.0);
    case CURLE_GOT_NOTHING:
      return "the connection was closed without an answer";
    case CURLE_PEER_FAILED_VERIFICATION:
      return "the server's certificate is not trusted here, or is another name's: give the file "
             "that signed it with cacert";
    case CURLE_SSL_CACERT_BADFILE:
      return "cacert holds no certificate: it must be a PEM file";
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
      return "the connection broke off";
    default:
      return curl_easy_strerror(code);
  }
}

}  // namespace

struct HttpClient::State {
  HttpClientOptions options;
  CURLM* multi = nullptr;
  curl_slist* fields = nullptr;
  std::vector<CURL*> idle;
  std::unordered_map<CURL*, std::unique_ptr<Exchange>> running;

  void end(CURL* easy, CURLcode code) {
    const auto found = running.find(easy);
    CHECK(found != running.end(), "libcurl ended a transfer that nobody began");
    const std::unique_ptr<Exchange> exchange = std::move(found->second);
    running.erase(found);
    const std::string failure =
        exchange->left ? "" : failure_of(easy, code, options.answer_timeout_ms);
    exchange->listener.on_end(exchange->head(), failure);
    curl_multi_remove_handle(multi, easy);
    curl_easy_reset(easy);
    idle.push_back(easy);
  }

  CURL* take_handle() {
    CURL* easy = idle.empty() ? curl_easy_init() : idle.back();
    if (!idle.empty()) idle.pop_back();
    if (easy == nullptr) throw std::runtime_error("libcurl gives no handle: out of memory?");
    return easy;
  }
};

HttpClient::HttpClient(HttpClientOptions options) : state_(std::make_unique<State>()) {
  state_->options = std::move(options);
  curl_global_init(CURL_GLOBAL_DEFAULT);
  state_->multi = curl_multi_init();
  if (state_->multi == nullptr) throw std::runtime_error("libcurl cannot be used: out of memory?");
  curl_multi_setopt(state_->multi, CURLMOPT_MAXCONNECTS, kMaxIdleConnections);
  curl_multi_setopt(state_->multi, CURLMOPT_PIPELINING, static_cast<long>(CURLPIPE_NOTHING));
  const std::string key = "Authorization: Bearer " + state_->options.api_key;
  // "Expect:" without a value: bodies are sent at once.
  for (const char* field : {"Content-Type: application/json", "Expect:"}) {
    state_->fields = curl_slist_append(state_->fields, field);
  }
  if (!state_->options.api_key.empty()) {
    state_->fields = curl_slist_append(state_->fields, key.c_str());
  }
}

HttpClient::~HttpClient() {
  for (auto& [easy, exchange] : state_->running) {
    curl_multi_remove_handle(state_->multi, easy);
    curl_easy_cleanup(easy);
  }
  for (CURL* easy : state_->idle) curl_easy_cleanup(easy);
  curl_multi_cleanup(state_->multi);
  curl_slist_free_all(state_->fields);
}

void HttpClient::send(const std::string& path, std::string body, HttpListener listener) {
  CURL* easy = state_->take_handle();
  auto exchange = std::make_unique<Exchange>();
  exchange->easy = easy;
  exchange->body = std::move(body);
  exchange->listener = std::move(listener);
  curl_easy_setopt(easy, CURLOPT_URL, (state_->options.url + path).c_str());
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, state_->fields);
  if (!exchange->body.empty()) {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(exchange->body.size()));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, exchange->body.data());  // not copied
  }
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(easy, CURLOPT_PROXY, "");  // a proxy of the environment would be measured, too
  if (!state_->options.cacert.empty()) {
    curl_easy_setopt(easy, CURLOPT_CAINFO, state_->options.cacert.c_str());
  }
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, kConnectTimeoutMs);
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(state_->options.answer_timeout_ms));
  curl_easy_setopt(easy, CURLOPT_USERAGENT, "tidemill-bench");
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_bytes);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, exchange.get());
  state_->running.emplace(easy, std::move(exchange));
  const CURLMcode code = curl_multi_add_handle(state_->multi, easy);
  CHECK(code == CURLM_OK, "libcurl refuses a transfer: {}", curl_multi_strerror(code));
}

void HttpClient::wait(std::chrono::milliseconds most) {
  curl_multi_poll(state_->multi, nullptr, 0, static_cast<int>(most.count()), nullptr);
}

void HttpClient::work() {
  int running = 0;
  curl_multi_perform(state_->multi, &running);
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(state_->multi, &left)) {
    if (message->msg == CURLMSG_DONE) state_->end(message->easy_handle, message->data.result);
  }
}

size_t HttpClient::num_running() const { return state_->running.size(); }

}  // namespace tidemill
