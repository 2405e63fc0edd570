// What `bench --url` sends, and how fast. Names are those of `vllm bench serve`.
#pragma once

#include <cstdint>
#include <string>

namespace tidemill {

struct LoadOptions {
  std::string url;  // http://HOST:PORT or https://HOST:PORT; empty: no server is measured
  std::string endpoint = "/v1/completions";
  std::string cacert;  // PEM file that an https server's certificate hangs on; empty: none
  std::string api_key;
  bool stream = true;
  bool ignore_eos = false;
  int64_t num_prompts = 100;
  int64_t duration_ms = 0;          // with one, requests are sent until it is over
  double request_rate = 0.0;        // per second; 0: closed loop
  double burstiness = 1.0;          // shape of the gamma distribution of the gaps; 1: Poisson
  int64_t num_warmups = 1;          // sent and forgotten before the clock starts
  int64_t random_input_len = 1024;  // tokens, or words where text is sent
  int64_t random_output_len = 128;
  double random_range_ratio = 0.0;  // lengths lie in [(1 - r) * length, (1 + r) * length]
  int64_t random_vocab_size = 256;  // token ids are drawn from [32, this)
  std::string dataset;              // file with one body or prompt a line
  std::string goodput;              // "ttft:200,tpot:50,e2el:5000", in milliseconds
  std::string metric_percentiles = "50,90,99";
  std::string save_result;
  int64_t answer_timeout_ms = 600'000;  // for one whole answer
};

}  // namespace tidemill
