cmake_minimum_required(VERSION 3.25)  # for IN_LIST

# Fails when a file compiled for a wider instruction set includes more than plain data, intrinsics
# and what lives in unnamed namespaces: check_isa_objects.cmake finds the weak symbols of today's
# compiler, this list keeps out the headers that would bring them with another.
# cmake -DROOT=src -DSOURCES="a_avx2.cc;..." -P check_isa_includes.cmake
set(system_headers immintrin.h stddef.h stdint.h)
set(own_headers
  kernels/kv_layout.h
  kernels/logits.h
  kernels/packed_weight.h
  kernels/quantized_rows.h
  kernels/tensor.h
  parallel/memory_ahead.h
  kernels/host/amx/attention_loop.h
  kernels/host/amx/attention_steps.h
  kernels/host/amx/integer_attention.h
  kernels/host/amx/integer_groups.h
  kernels/host/amx/integer_loop.h
  kernels/host/amx/integer_portions.h
  kernels/host/amx/integer_scales.h
  kernels/host/amx/integer_stream.h
  kernels/host/amx/integer_weights.h
  kernels/host/amx/pair_sums.h
  kernels/host/amx/plain_tiles.h
  kernels/host/amx/product_loop.h
  kernels/host/amx/products.h
  kernels/host/amx/tile_blocks.h
  kernels/host/amx/tiles.h
  kernels/host/attention_avx2_ops.h
  kernels/host/attention_avx512_ops.h
  kernels/host/attention_groups.h
  kernels/host/attention_inner.h
  kernels/host/attention_loop.h
  kernels/host/attention_vectors_avx512.h
  kernels/host/bf16_pairs_avx2.h
  kernels/host/inner.h
  kernels/host/int8_cache/attention_loop.h
  kernels/host/int8_cache/attention_rows.h
  kernels/host/int8_cache/byte_rows_avx512vnni.h
  kernels/host/int8_cache/vector_avx512.h
  kernels/host/int8_cache/widened_rows.h
  kernels/host/integer_vector_avx512.h
  kernels/host/peak/peak_amx.h
  kernels/host/peak/peak_loop.h
  kernels/host/product_groups.h
  kernels/host/product_maddubs.h
  kernels/host/product_tiles.h
  kernels/host/quantize_groups.h
  kernels/host/unroll.h
  kernels/host/vector_avx2.h
  kernels/host/vector_avx512.h)

set(files ${SOURCES})
list(FILTER files INCLUDE REGEX "_(avx2|avx512|avx512bf16|avx512vnni|amx)\\.cc$")
if(NOT files)
  message(FATAL_ERROR "no file with an instruction set's suffix among: ${SOURCES}")
endif()
# The headers of the list obey it, too: what they include arrives as well.
foreach(header ${own_headers})
  if(EXISTS ${ROOT}/${header})
    list(APPEND files ${ROOT}/${header})
  endif()
endforeach()

set(strange "")
foreach(file ${files})
  file(STRINGS ${file} lines REGEX "^[ \t]*#[ \t]*include")
  foreach(line ${lines})
    if(line MATCHES "include[ \t]*\"([^\"]+)\"" AND CMAKE_MATCH_1 IN_LIST own_headers)
      continue()
    elseif(line MATCHES "include[ \t]*<([^>]+)>" AND CMAKE_MATCH_1 IN_LIST system_headers)
      continue()
    endif()
    file(RELATIVE_PATH shown ${ROOT} ${file})
    string(APPEND strange "src/${shown}: ${line}\n")
  endforeach()
endforeach()
if(strange)
  message(FATAL_ERROR "\n${strange}Files for wider instruction sets include intrinsics, plain data "
    "and unnamed namespaces only: see the list in cmake/check_isa_includes.cmake.")
endif()
