# layer(NAME [DEPENDS lower...] [LIBRARIES third_party...])
#
# Builds src/NAME: every .cc into the library tidemill_NAME, every *_test.cc into NAME_test, every
# *_bench.cc into NAME_bench, every *_fuzz.cc into programs of its own (fuzz.cmake), and what lies in
# NAME/simulation, which only tests use, into tidemill_NAME_simulation. DEPENDS may name only layers
# declared before, so a circle cannot be written down; check_includes.cmake holds every #include to
# the same list.

# Only these suffixes may use instructions beyond plain x86-64 (kernels/README.md says why).
set(TIDEMILL_ISA_FLAGS_avx2 -mavx2 -mfma -mf16c)
set(TIDEMILL_ISA_FLAGS_avx512 ${TIDEMILL_ISA_FLAGS_avx2} -mavx512f -mavx512bw -mavx512vl -mavx512dq)
set(TIDEMILL_ISA_FLAGS_avx512bf16 ${TIDEMILL_ISA_FLAGS_avx512} -mavx512bf16)
set(TIDEMILL_ISA_FLAGS_avx512vnni ${TIDEMILL_ISA_FLAGS_avx512} -mavx512vnni)
set(TIDEMILL_ISA_FLAGS_amx ${TIDEMILL_ISA_FLAGS_avx512bf16} -mamx-tile -mamx-bf16 -mamx-int8)

function(layer name)
  cmake_parse_arguments(LAYER "" "" "DEPENDS;LIBRARIES" ${ARGN})
  set(folder ${CMAKE_CURRENT_SOURCE_DIR}/${name})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${folder}/*.cc)
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  set(benches ${sources})
  list(FILTER benches INCLUDE REGEX "_bench\\.cc$")
  set(fuzzers ${sources})
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cc$")
  list(FILTER sources EXCLUDE REGEX "(_test|_bench|_fuzz)\\.cc$")
  set(simulation ${sources})
  list(FILTER simulation INCLUDE REGEX "/simulation/")
  list(FILTER sources EXCLUDE REGEX "/simulation/")

  add_library(tidemill_${name} STATIC ${sources})
  target_link_libraries(tidemill_${name} PUBLIC tidemill_flags ${LAYER_LIBRARIES})
  foreach(lower ${LAYER_DEPENDS})
    if(NOT TARGET tidemill_${lower})
      message(FATAL_ERROR "layer ${name} depends on ${lower}, which is not declared above it")
    endif()
    target_link_libraries(tidemill_${name} PUBLIC tidemill_${lower})
  endforeach()
  layer_isa_flags("${sources}")
  layer_isa_test(${name} "${sources}")
  if(TIDEMILL_SANITIZE)
    layer_unity(${name} tidemill_${name})
  endif()

  # Stamps make the check part of the build: an include that climbs fails it.
  set(stamp ${CMAKE_CURRENT_BINARY_DIR}/${name}.includes)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${folder}/*.h)
  add_custom_command(OUTPUT ${stamp}
    COMMAND ${CMAKE_COMMAND} -DFOLDER=${folder} -DNAME=${name} "-DALLOWED=${LAYER_DEPENDS}"
            -DSTAMP=${stamp} -P ${CMAKE_SOURCE_DIR}/cmake/check_includes.cmake
    DEPENDS ${sources} ${simulation} ${headers} ${tests} ${fuzzers}
            ${CMAKE_SOURCE_DIR}/cmake/check_includes.cmake VERBATIM)
  add_custom_target(${name}_includes ALL DEPENDS ${stamp})

  if(TIDEMILL_TESTS AND tests)
    find_package(GTest REQUIRED)
    include(GoogleTest)
    add_executable(${name}_test ${tests})
    layer_simulation(${name} "${simulation}" "${LAYER_DEPENDS}")
    target_link_libraries(${name}_test PRIVATE tidemill_${name} GTest::gmock GTest::gtest_main)
    target_compile_definitions(${name}_test PRIVATE
      TIDEMILL_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    layer_test_optimization(${name})
    layer_unity(${name} ${name}_test)
    gtest_discover_tests(${name}_test TEST_PREFIX ${name}. DISCOVERY_MODE PRE_TEST
      PROPERTIES TIMEOUT 300)
  endif()
  if((TIDEMILL_TESTS OR TIDEMILL_FUZZ) AND fuzzers)
    fuzz_targets(${name} "${fuzzers}")
  endif()
  if(TIDEMILL_BENCHES AND benches)
    find_package(benchmark REQUIRED)
    add_executable(${name}_bench ${benches})
    target_link_libraries(${name}_bench PRIVATE tidemill_${name} benchmark::benchmark_main)
  endif()
endfunction()

# Several files at a time: most of a test file's compilation is the headers and templates that its
# neighbours have, too. So a name of an anonymous namespace is a name in the whole layer. Libraries
# are compiled like that under sanitizers only; the other trees show that each file includes what it
# uses. Kernels have names per instruction set.
function(layer_unity name target)
  if(NOT name STREQUAL "kernels")
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
    # Right for headers, and a .cc that another file includes looks like one.
    target_compile_options(${target} PRIVATE -Wno-subobject-linkage)
  endif()
endfunction()

# A test's own code takes longer to optimise than to run, but where it computes what a kernel should
# have. The library under test is as in the whole tree.
function(layer_test_optimization name)
  if(name MATCHES "^(kernels|model|sampling)$")
    target_compile_options(${name}_test PRIVATE -O1)
  else()
    target_compile_options(${name}_test PRIVATE -O0)
  endif()
endfunction()

# The layer's tests get its own simulation and those of the layers below.
function(layer_simulation name sources depends)
  if(sources)
    add_library(tidemill_${name}_simulation STATIC ${sources})
    target_link_libraries(tidemill_${name}_simulation PUBLIC tidemill_${name})
  endif()
  foreach(layer ${name} ${depends})
    if(TARGET tidemill_${layer}_simulation)
      target_link_libraries(${name}_test PRIVATE tidemill_${layer}_simulation)
    endif()
  endforeach()
endfunction()

function(layer_isa_flags sources)
  foreach(source ${sources})
    if(source MATCHES "_(avx2|avx512|avx512bf16|avx512vnni|amx)\\.cc$")
      # GCC 12 warns falsely about uninitialised values inside its AVX-512 headers.
      set_source_files_properties(${source} PROPERTIES
        COMPILE_OPTIONS "${TIDEMILL_ISA_FLAGS_${CMAKE_MATCH_1}};-Wno-uninitialized;-ffp-contract=off")
    elseif(NOT TIDEMILL_SANITIZE AND source MATCHES
           "kernels/(select|host/(kv_store|driver_parts))\\.cc$")
      # Loops over a row; at -O2 GCC 12 leaves alone what needs a check or a remainder.
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-O3;-ffp-contract=off")
    elseif(TIDEMILL_SANITIZE AND source MATCHES "(_reference|plain_tiles)\\.cc$")
      # Small, and what tests under sanitizers spend most of their time in.
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-O2")
    endif()
  endforeach()
endfunction()

# What holds the files above to what they may include, and their objects to what they may define.
function(layer_isa_test name sources)
  if(NOT TIDEMILL_TESTS OR NOT sources MATCHES "_avx2\\.cc")
    return()
  endif()
  add_test(NAME ${name}.WiderInstructionsIncludePlainData
    COMMAND ${CMAKE_COMMAND} -DROOT=${CMAKE_CURRENT_SOURCE_DIR} "-DSOURCES=${sources}"
            -P ${CMAKE_SOURCE_DIR}/cmake/check_isa_includes.cmake)
  if(NOT TIDEMILL_SANITIZE)  # sanitizers add weak symbols of their own
    add_test(NAME ${name}.WiderInstructionsStayInTheirFiles
      COMMAND ${CMAKE_COMMAND} "-DOBJECTS=$<TARGET_OBJECTS:tidemill_${name}>" -DNM=${CMAKE_NM}
              -P ${CMAKE_SOURCE_DIR}/cmake/check_isa_objects.cmake)
  endif()
endfunction()
