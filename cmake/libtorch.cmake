# Adds the libtorch in a folder as the target simclr_ext::torch; sets `version` to its version.
#
# By hand and not by find_package(Torch): that of a CUDA build of torch asks for a CUDA toolkit.
function(simclr_ext_add_libtorch folder version)
  set(files "${folder}/share/cmake/Torch")
  file(STRINGS "${files}/TorchConfigVersion.cmake" line REGEX "set\\(PACKAGE_VERSION ")
  string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" found "${line}")
  set(${version} ${found} PARENT_SCOPE)

  add_library(simclr_ext::torch INTERFACE IMPORTED)
  target_include_directories(simclr_ext::torch INTERFACE
    "${folder}/include" "${folder}/include/torch/csrc/api/include")
  foreach(name torch_cpu c10)
    find_library(library ${name} PATHS "${folder}/lib" REQUIRED NO_DEFAULT_PATH NO_CACHE)
    target_link_libraries(simclr_ext::torch INTERFACE "${library}")
    unset(library)
  endforeach()
  # The wheels of torch 2.6 have the C++ library's old ABI; it can go with torch 2.7.
  file(STRINGS "${files}/TorchConfig.cmake" old_abi REGEX "_GLIBCXX_USE_CXX11_ABI=0")
  if(old_abi)
    target_compile_definitions(simclr_ext::torch INTERFACE _GLIBCXX_USE_CXX11_ABI=0)
  endif()
endfunction()
