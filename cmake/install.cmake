# What `cmake --install` copies: the library, its interface, and what find_package reads.

include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set_target_properties(simclr_ext PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON) # finds libtorch
install(TARGETS simclr_ext EXPORT simclr_extTargets)
install(FILES ${PROJECT_SOURCE_DIR}/csrc/simclr_ext.h TYPE INCLUDE)

set(PACKAGE_FOLDER ${CMAKE_INSTALL_LIBDIR}/cmake/simclr_ext)
install(EXPORT simclr_extTargets NAMESPACE simclr_ext:: DESTINATION ${PACKAGE_FOLDER})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/simclr_extConfig.cmake.in
  ${PROJECT_BINARY_DIR}/simclr_extConfig.cmake INSTALL_DESTINATION ${PACKAGE_FOLDER})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/simclr_extConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES
  ${PROJECT_BINARY_DIR}/simclr_extConfig.cmake
  ${PROJECT_BINARY_DIR}/simclr_extConfigVersion.cmake
  ${CMAKE_CURRENT_LIST_DIR}/libtorch.cmake
  DESTINATION ${PACKAGE_FOLDER})
