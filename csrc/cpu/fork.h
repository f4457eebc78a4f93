// What a fork does to the threads of the operators.

#pragma once

namespace simclr {

// A forked child has one thread. If that thread has had others work for it before the fork, libgomp
// waits for these for ever, in torch's functions as well.

// To be called by a thread that is about to have others work for it.
void note_threads();
// Throws if the calling thread would wait for threads that a fork has left behind.
void check_threads();

}  // namespace simclr
