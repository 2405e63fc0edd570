# Tests that are not unit tests of a layer: of the checks themselves, and of the program and the
# lower layers on processors that lack what this one has.
add_test(NAME cmake.ChecksFindWhatTheyAreFor
  COMMAND ${CMAKE_COMMAND} -DFOLDER=${CMAKE_CURRENT_BINARY_DIR}/checks_test
          -P ${CMAKE_SOURCE_DIR}/cmake/checks_test.cmake)

# The long runs of the simulations: twenty times, and six times, what their unit tests run, which is
# what the trees with sanitizers keep.
if(NOT TIDEMILL_SANITIZE)
  set(scheduler_events 20000000)
  set(executor_events 3000000)
  foreach(name scheduler executor)
    add_test(NAME ${name}.simulation
      COMMAND ${name}_test --gtest_brief=1 --gtest_filter=*Simulation.*-*.ASeed*)
    set_tests_properties(${name}.simulation PROPERTIES TIMEOUT 600
      ENVIRONMENT TIDEMILL_SIMULATION_EVENTS=${${name}_events})
  endforeach()
endif()

# Everything but the files with an instruction set's suffix is plain x86-64: qemu's smallest
# processor, and one with AVX2 and nothing newer, must run the program and the lower layers. An
# instruction that got out of its file ends them with SIGILL.
#
# Left out, because emulated floating point takes minutes for them:
# - the tests of Attention with long contexts (IsSoftmaxOverTheContextInRecycledBlocks,
#   RowsBitsDoNotDependOnHowThePromptWasCut, HeadsBitsDoNotDependOnItsPlaceInTheGroup,
#   ScoresFarApartNeitherOverflowNorVanish);
# - kernels on plain tiles (amx_emulated, TileProducts, TileIntegers): plain C++ that no server
#   chooses, with the same bits wherever it runs. Tiles themselves stay (PlainTiles);
# - where there is AVX2, the reference: the smallest processor has run it.
# Because the emulator does not obey limits on memory: WorkerPool.ThatCannotStartItsThreadsSaysSo-
# AndStopsThoseItHas.
set(emulated_kernels_without "*Attention.IsSoftmax*:*Attention.RowsBits*:*Attention.HeadsBits*")
string(APPEND emulated_kernels_without ":*Attention.ScoresFarApart*")
string(APPEND emulated_kernels_without ":*amx_emulated*:TileProducts.*:TileIntegers.*")
set(emulated_base "*")
set(emulated_parallel "-WorkerPool.ThatCannotStart*")
set(emulated_kernels_qemu64 "-${emulated_kernels_without}")
set(emulated_kernels_Haswell "-${emulated_kernels_without}:*/reference*")

# emulated_tests(processor variant): `variant` is the first that inspect must say is not here.
function(emulated_tests processor variant)
  set(prefix on_${processor})
  add_test(NAME ${prefix}.inspect
    COMMAND ${QEMU_X86_64} -cpu ${processor} $<TARGET_FILE:tidemill> inspect --calibration off)
  set_tests_properties(${prefix}.inspect PROPERTIES
    PASS_REGULAR_EXPRESSION "${variant} [^\n]*not here" TIMEOUT 60)
  set(emulated_kernels ${emulated_kernels_${processor}})
  foreach(name base parallel kernels)
    add_test(NAME ${prefix}.${name}
      COMMAND ${QEMU_X86_64} -cpu ${processor} $<TARGET_FILE:${name}_test> --gtest_brief=1
              --gtest_filter=${emulated_${name}})
    # The longest of all begin first, or one core would wait for them in the end.
    set_tests_properties(${prefix}.${name} PROPERTIES TIMEOUT 600 COST 100)
  endforeach()
endfunction()

find_program(QEMU_X86_64 qemu-x86_64)
if(TIDEMILL_SANITIZE)
  message(STATUS "no tests on emulated processors: sanitizers need a memory layout of their own")
elseif(QEMU_X86_64)
  emulated_tests(qemu64 avx2)
  emulated_tests(Haswell avx512)
else()
  add_test(NAME on_lesser_processors
    COMMAND ${CMAKE_COMMAND} -E echo "skipped: qemu-x86_64 is not installed (package qemu-user)")
  set_tests_properties(on_lesser_processors PROPERTIES SKIP_REGULAR_EXPRESSION "skipped: ")
endif()
