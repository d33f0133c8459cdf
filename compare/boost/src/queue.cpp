// The few functions of boost::interprocess::message_queue that are measured, for C callers: no exception passes.

#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/version.hpp>
#include <cstddef>
#include <exception>

using boost::interprocess::message_queue;

extern "C" {

const char *queue_boost_version() { return BOOST_LIB_VERSION; }

// Opens the queue `name`, or makes it if the other process was slower. Null: it cannot be opened.
void *queue_open(const char *name, std::size_t messages, std::size_t message_bytes) {
    try {
        return new message_queue(boost::interprocess::open_or_create, name, messages, message_bytes);
    } catch (const std::exception &) {
        return nullptr;
    }
}

void queue_close(void *queue) { delete static_cast<message_queue *>(queue); }

bool queue_remove(const char *name) { return message_queue::remove(name); }

// Waits for room.
bool queue_send(void *queue, const void *message, std::size_t bytes) {
    try {
        static_cast<message_queue *>(queue)->send(message, bytes, 0);
        return true;
    } catch (const std::exception &) {
        return false;
    }
}

// Receives a message of exactly `bytes`: 1. Nothing there, and not to wait: 0. Else -1.
int queue_receive(void *queue, void *message, std::size_t bytes, bool wait) {
    try {
        message_queue::size_type received = 0;
        unsigned priority = 0;
        if (wait)
            static_cast<message_queue *>(queue)->receive(message, bytes, received, priority);
        else if (!static_cast<message_queue *>(queue)->try_receive(message, bytes, received, priority))
            return 0;
        return received == bytes ? 1 : -1;
    } catch (const std::exception &) {
        return -1;
    }
}
}
